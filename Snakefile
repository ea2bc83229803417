# A study as a workflow: one job a model, one a page, and one for the book. Stages meet in tables and nowhere else.
#
#   snakemake --cores 2 --configfile studies/laptop.yml            every page that the study names
#   snakemake --cores 2 --configfile studies/laptop.yml all book   the same, and the rendered book
#
# A page is run again when its notebook, a room of lib that it imports, its parameters or a table it reads has changed.
import os
import sys

from prunecast import paths
from prunecast.errors import UserError
from prunecast.workflow import dependencies, studies

if not workflow.configfiles:
    sys.exit("prunecast: which study? Give its file: --configfile studies/laptop.yml")
STUDY_FILE = os.path.relpath(workflow.configfiles[0])
try:
    STUDY = studies.check_study(config, STUDY_FILE)
    BOOK_PAGES = studies.pages()
except UserError as error:
    sys.exit(f"prunecast: {error}")

RUN = os.path.relpath(paths.run(STUDY.study))
NOTEBOOK = f"{RUN}/notebooks/{{}}.ipynb"
TABLE = f"{RUN}/tables/{{}}"
PROSE = [str(path) for path in sorted(Path("book").rglob("*")) if path.is_file()]
MODELS = STUDY.pages.get("collect_sweeps", {}).get("models", [])
SWEPT = f"{RUN}/models/{{}}/swept"
LEARNED_FROM = ("models.csv", "sweeps.csv", "signals.csv.gz")
JUDGED = (*LEARNED_FROM, "predictions.csv.gz", "forecast_errors.csv", "recommendations.csv")
THREADS = 8
RUN_PAGE = f"prunecast run {{rule}} --study {STUDY_FILE}"


def sources(file):
    """A page's notebook, or a room of lib, and the rooms it stands on."""
    return [file, *map(os.path.relpath, dependencies.rooms_of(paths.ROOT / file))]


rule all:
    input:
        [NOTEBOOK.format(page) for page in STUDY.pages],


# threads: what a job asks of a cluster; a machine with fewer cores gives all it has, and runs job after job.
# update(): the products of the last good run stay until the new ones are complete.
rule model:
    input:
        sources("lib/prunecast/sweeps/collect.py"),
        "data/models.yml",
        "data/tasks.yml",
    output:
        touch(SWEPT.format("{model}")),  # not the journal: Snakemake removes the outputs of a job that was stopped
    wildcard_constraints:
        model="|".join(MODELS) or "none",
    params:
        STUDY.pages.get("collect_sweeps"),
    threads: THREADS
    shell:
        "prunecast collect {wildcards.model} --study {STUDY_FILE}"


rule collect_sweeps:
    input:
        sources("notebooks/collect_sweeps.py"),
        [SWEPT.format(model) for model in MODELS],
        "data/models.yml",
        "data/tasks.yml",
        "data/schemas.yml",
        "data/measured/campaign/engines.csv",
        "data/measured/benchmarks/speed.csv",
    output:
        update(NOTEBOOK.format("collect_sweeps")),
        update(TABLE.format("models.csv")),
        update(TABLE.format("sweeps.csv")),
        update(TABLE.format("engines.csv")),
    params:
        STUDY.pages.get("collect_sweeps"),
    threads: THREADS
    shell:
        RUN_PAGE


rule magnitude_pruning:
    input:
        sources("notebooks/magnitude_pruning.py"),
        TABLE.format("sweeps.csv"),
    output:
        update(NOTEBOOK.format("magnitude_pruning")),
    params:
        STUDY.pages.get("magnitude_pruning"),
    threads: THREADS
    shell:
        RUN_PAGE


rule campaign:
    input:
        sources("notebooks/campaign.py"),
        [f"data/measured/campaign/{table}.csv" for table in ("models", "sweeps")],
    output:
        update(NOTEBOOK.format("campaign")),
    params:
        STUDY.pages.get("campaign"),
    shell:
        RUN_PAGE


rule cheap_signals:
    input:
        sources("notebooks/cheap_signals.py"),
        TABLE.format("models.csv"),
        [f"data/measured/campaign/{table}" for table in ("signals.csv.gz", "sweeps.csv")],
    output:
        update(NOTEBOOK.format("cheap_signals")),
        update(TABLE.format("signals.csv.gz")),
        update(TABLE.format("probes.csv.gz")),
    params:
        STUDY.pages.get("cheap_signals"),
    threads: THREADS
    shell:
        RUN_PAGE


rule protocols:
    input:
        sources("notebooks/protocols.py"),
        [TABLE.format(table) for table in ("models.csv", "sweeps.csv", "signals.csv.gz", "probes.csv.gz")],
    output:
        update(NOTEBOOK.format("protocols")),
        update(TABLE.format("predictions.csv.gz")),
        update(TABLE.format("forecast_errors.csv")),
    params:
        STUDY.pages.get("protocols"),
    threads: THREADS
    shell:
        RUN_PAGE


rule surrogate:
    input:
        sources("notebooks/surrogate.py"),
        "data/published/lstm_surrogate.csv",
        [f"data/measured/campaign/{table}" for table in JUDGED],
        [f"data/measured/unseen/{table}" for table in ("models.csv", "sweeps.csv", "signals.csv.gz")],
    output:
        update(NOTEBOOK.format("surrogate")),
    params:
        STUDY.pages.get("surrogate"),
    threads: THREADS
    shell:
        RUN_PAGE


rule vgg16_transfer:
    input:
        sources("notebooks/vgg16_transfer.py"),
        TABLE.format("models.csv"),
        "data/published/lstm_surrogate.csv",
        [f"data/measured/campaign/{table}" for table in ("predictions.csv.gz", "recalibration.csv")],
    output:
        update(NOTEBOOK.format("vgg16_transfer")),
        update(TABLE.format("recalibration.csv")),
    params:
        STUDY.pages.get("vgg16_transfer"),
    threads: THREADS
    shell:
        RUN_PAGE


rule schedules:
    input:
        sources("notebooks/schedules.py"),
        TABLE.format("models.csv"),
        [f"data/measured/{study}/schedules.csv" for study in ("selection", "compression")],
    output:
        update(NOTEBOOK.format("schedules")),
        update(TABLE.format("schedules.csv")),
    params:
        STUDY.pages.get("schedules"),
    threads: THREADS
    shell:
        RUN_PAGE


rule energy:
    input:
        sources("notebooks/energy.py"),
        TABLE.format("models.csv"),
        [f"data/measured/selection/{table}.csv" for table in ("costs", "meter")],
    output:
        update(NOTEBOOK.format("energy")),
        update(TABLE.format("costs.csv")),
        update(TABLE.format("meter.csv")),
    params:
        STUDY.pages.get("energy"),
    threads: THREADS
    shell:
        RUN_PAGE


rule pareto:
    input:
        sources("notebooks/pareto.py"),
        TABLE.format("models.csv"),
        [f"data/measured/campaign/{table}" for table in ("sweeps.csv", "predictions.csv.gz")],
        "data/measured/safe_ratios/scans.csv",
        [f"data/measured/selection/{table}.csv" for table in ("candidates", "searches", "selections")],
    output:
        update(NOTEBOOK.format("pareto")),
        [update(TABLE.format(f"{table}.csv")) for table in ("scans", "candidates", "searches", "selections")],
    params:
        STUDY.pages.get("pareto"),
    threads: THREADS
    shell:
        RUN_PAGE


rule effective_number:
    input:
        sources("notebooks/effective_number.py"),
        [TABLE.format(table) for table in ("models.csv", "sweeps.csv")],
        "data/language_models.yml",
        "data/published/emp.csv",
        "data/measured/effective/emp.csv",
        "data/measured/effective_speed/effective_speed.csv",
        [f"data/measured/campaign/{table}.csv" for table in ("sweeps", "recommendations", "forecast_errors")],
    output:
        update(NOTEBOOK.format("effective_number")),
        update(TABLE.format("emp.csv")),
    params:
        STUDY.pages.get("effective_number"),
    threads: THREADS
    shell:
        RUN_PAGE


rule claims:
    input:
        sources("notebooks/claims.py"),
        [f"data/published/{paper}.csv" for paper in ("lstm_surrogate", "smarts", "emp")],
        "data/measured/campaign/predictions.csv.gz",
        [f"data/measured/selection/{table}.csv" for table in ("models", "schedules", "candidates", "selections")],
        "data/measured/compression/schedules.csv",
        "data/measured/effective/emp.csv",
    output:
        update(NOTEBOOK.format("claims")),
        update(TABLE.format("reproductions.csv")),
    params:
        STUDY.pages.get("claims"),
    shell:
        RUN_PAGE


rule your_model:
    input:
        sources("notebooks/your_model.py"),
        TABLE.format("models.csv"),
        [f"data/measured/campaign/{table}" for table in LEARNED_FROM],
    output:
        update(NOTEBOOK.format("your_model")),
    params:
        STUDY.pages.get("your_model"),
    threads: THREADS
    shell:
        RUN_PAGE


# Staged afresh with the files' own times, so that only pages that changed are read again.
rule book:
    input:
        "_config.yml",
        "_toc.yml",
        "data/README.md",
        PROSE,
        notebooks=[NOTEBOOK.format(page) for page in BOOK_PAGES],
    output:
        "_build/html/index.html",
    shell:
        "rm -rf _build/source && cp -rp book _build/source"
        " && cp -p _config.yml _toc.yml {input.notebooks} _build/source"
        " && cp -p data/README.md _build/source/tables.md"
        " && jupyter-book build -q -W -n --keep-going --path-output . _build/source"
