# A study as a workflow: one job a model, one a page, and one for the book. Stages meet in tables and nowhere else.
#
#   snakemake --cores 2 --configfile studies/laptop.yml            every page that the study names
#   snakemake --cores 2 --configfile studies/laptop.yml all book   the same, and the rendered book
#
# A page is run again when its notebook, a module of lib that it imports, its parameters or a file it reads has changed.
# What a page reads and writes is in the header of its notebook.
import os
import sys

from prunecast import paths
from prunecast.errors import UserError
from prunecast.workflow import dependencies, pages, studies

if not workflow.configfiles:
    sys.exit("prunecast: which study? Give its file: --configfile studies/laptop.yml")
STUDY_FILE = os.path.relpath(workflow.configfiles[0])
try:
    STUDY = studies.read_study(Path(STUDY_FILE))  # not Snakemake's own reading of it, which takes a key twice
except UserError as error:
    sys.exit(f"prunecast: {error}")

RUN = os.path.relpath(paths.run(STUDY.study))
NOTEBOOK = f"{RUN}/notebooks/{{}}.ipynb"
PROSE = [str(path) for path in sorted(Path("book").rglob("*")) if path.is_file()]
COLLECTING = "collect_sweeps"
MODELS = STUDY.pages.get(COLLECTING, {}).get("models", [])
SWEPT = f"{RUN}/models/{{}}/swept"
CORES = workflow.resource_settings.cores or 1  # not set where a cluster runs the jobs


def sources(file):
    """A page's notebook, or a module of lib, and the modules that it imports."""
    return [file, *map(os.path.relpath, dependencies.modules_of(paths.ROOT / file))]


def of_run(file):
    """A file that a page reads: a table of the run, or a file of the repository."""
    return f"{RUN}/{file}" if file.startswith("tables/") else file


rule all:
    input:
        [NOTEBOOK.format(page) for page in STUDY.pages],


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
        STUDY.pages.get(COLLECTING),
    threads: STUDY.threads
    shell:
        "prunecast collect {wildcards.model} --study {STUDY_FILE}"


# update(): the products of the last good run stay until the new ones are complete.
for PAGE in pages.pages():

    rule:
        name:
            PAGE
        input:
            sources(f"notebooks/{PAGE}.py"),
            [of_run(file) for file in pages.files_of(PAGE).reads],
            [SWEPT.format(model) for model in MODELS if PAGE == COLLECTING],
        output:
            update(NOTEBOOK.format(PAGE)),
            [update(f"{RUN}/tables/{table}") for table in pages.files_of(PAGE).writes],
        params:
            STUDY.pages.get(PAGE),
        threads: max(CORES, STUDY.threads) if pages.files_of(PAGE).all_cores else STUDY.threads
        shell:
            "prunecast run {rule} --study {STUDY_FILE}"


rule tables:
    input:
        "data/schemas.yml",
        "lib/prunecast/workflow/contracts.py",
        "lib/prunecast/workflow/pages.py",
        [f"notebooks/{page}.py" for page in pages.pages()],
    output:
        update("data/README.md"),
        update("book/parameters.md"),
    shell:
        "prunecast tables"


# Staged afresh with the files' own times, so that only pages that changed are read again.
rule book:
    input:
        "_config.yml",
        "_toc.yml",
        "data/README.md",
        PROSE,
        [str(path) for path in sorted(Path("lib").rglob("*.py"))],
        notebooks=[NOTEBOOK.format(page) for page in pages.pages()],
    output:
        "_build/html/index.html",
    shell:
        "rm -rf _build/source && cp -rp book _build/source"
        " && cp -p _config.yml _toc.yml {input.notebooks} _build/source"
        " && cp -p data/README.md _build/source/tables.md"
        " && jupyter-book build -q -W -n --keep-going --path-output . _build/source"
