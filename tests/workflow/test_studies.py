import pytest
from prunecast import paths
from prunecast.errors import UserError
from prunecast.workflow import pages, studies

GOOD = {"study": "s", "purpose": "p", "pages": {"collect_sweeps": {"points": 3}}}


@pytest.mark.parametrize("path", sorted(paths.STUDIES.glob("*.yml")), ids=lambda path: path.stem)
def test_every_study_of_the_house_is_valid_and_named_after_its_file(path):
    assert studies.read_study(path).study == path.stem


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOOD | {"page": {}}, "page is unknown; known are study, purpose, threads, pages"),
        ({"study": "s", "pages": {}}, "purpose is missing"),
        (GOOD | {"study": "My Study!"}, "study is 'My Study!'"),
        (GOOD | {"pages": {"collect": {}}}, "no page 'collect'; there are .*campaign, collect_sweeps"),
        (
            GOOD | {"pages": {"collect_sweeps": {"point": 3}}},
            "collect_sweeps has no parameter 'point'; it has criteria, exact, measured, models, points",
        ),
        (GOOD | {"pages": {"collect_sweeps": {"points": "many"}}}, "points .* must be of type int, not 'many'"),
        (GOOD | {"pages": {"collect_sweeps": {"points": True}}}, "must be of type int, not True"),
        (GOOD | {"pages": {"collect_sweeps": {"points": 3.5}}}, "must be of type int, not 3.5"),
        (GOOD | {"pages": {"collect_sweeps": {"models": "tiny"}}}, "must be of type list, not 'tiny'"),
        (GOOD | {"pages": {"collect_sweeps": {"run": "elsewhere"}}}, "no parameter 'run'"),
        (GOOD | {"pages": {"your_model": {"epsilon": float("nan")}}}, "epsilon is nan; it must be a finite number"),
        (GOOD | {"pages": {"energy": {"ratios": [0.5, float("inf")]}}}, "ratios is .*; it must be a finite number"),
        (GOOD | {"pages": {"pareto": {"epsilon": 1.5}}}, "page pareto: epsilon is 1.5; it is the accuracy"),
        (GOOD | {"pages": {"schedules": {"scope": "all"}}}, "scope is 'all'; it is global or layer"),
        (GOOD | {"pages": {"schedules": {"examples": 0}}}, "examples is 0; at least one is needed"),
        (GOOD | {"pages": {"energy": {"seed": -1}}}, "seed is -1; it is a whole number from 0"),
        (["a", "list"], "no mapping of study, purpose, threads, pages"),
    ],
)
def test_a_wrong_study_is_refused_in_one_sentence_that_names_what_is_allowed(content, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        studies.check_study(content, "s.yml")
    assert "\n" not in str(refusal.value)


STUDY = "study: s\npurpose: p\npages:\n  your_model:\n    epsilon: 0.02\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"study: s\npages: {unclosed\n", r"study bad\.yml, line 3: expected ',' or '}'"),
        (f"{STUDY}    epsilon: 0.5\n".encode(), r"bad\.yml, line 6: epsilon occurs twice"),
        (f"{STUDY}  your_model:\n    scope: global\n".encode(), r"bad\.yml, line 6: your_model occurs twice"),
        (f"{STUDY}study: t\n".encode(), r"bad\.yml, line 6: study occurs twice"),
        (STUDY.encode("utf-16"), r"bad\.yml, line 1: the file is not in UTF-8"),
        (STUDY.replace("p\n", "für\n", 1).encode("latin-1"), r"bad\.yml, line 2: the file is not in UTF-8"),
        (STUDY.replace("0.02", "2026-13-45").encode(), "epsilon .* must be of type float, not '2026-13-45'"),
        (STUDY.replace("0.02", "2026-10-15").encode(), "epsilon .* must be of type float, not '2026-10-15'"),
        (STUDY.replace("0.02", ".nan").encode(), "epsilon is nan; it must be a finite number"),
        (STUDY.replace("0.02", "!!int two").encode(), r"bad\.yml, line 1: .* cannot be read"),
        (b"[" * 5000, r"bad\.yml, line 1: .* cannot be read"),
        (b"study: \x01", r"bad\.yml, line 1: a character that YAML does not allow"),
    ],
)
def test_a_file_that_cannot_be_taken_as_it_is_is_refused_in_one_sentence(tmp_path, content, sentence):
    (tmp_path / "bad.yml").write_bytes(content)
    with pytest.raises(UserError, match=sentence) as refusal:
        studies.read_study(tmp_path / "bad.yml")
    assert "\n" not in str(refusal.value)


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        studies.read_study(tmp_path / "none.yml")


@pytest.mark.parametrize("number", ["2e-2", "2.e-2", "+0.02", ".02", "0.0_2"])
def test_numbers_are_read_in_every_notation(tmp_path, number):
    (tmp_path / "s.yml").write_text(STUDY.replace("0.02", number))
    if number == "0.0_2":
        with pytest.raises(UserError, match="must be of type float, not '0.0_2'"):
            studies.read_study(tmp_path / "s.yml")
    else:
        assert studies.read_study(tmp_path / "s.yml").pages == {"your_model": {"epsilon": 0.02}}


def test_a_byte_order_mark_of_utf_8_is_no_part_of_the_study(tmp_path):
    (tmp_path / "s.yml").write_text(STUDY, encoding="utf-8-sig")
    assert studies.read_study(tmp_path / "s.yml").study == "s"


def test_a_default_of_an_anchor_may_be_replaced_once(tmp_path):
    text = "study: s\npurpose: p\npages: {pareto: &common {epsilon: 0.02}, your_model: {<<: *common, epsilon: 0.05}}"
    (tmp_path / "s.yml").write_text(text)
    assert studies.read_study(tmp_path / "s.yml").pages["your_model"] == {"epsilon": 0.05}


def test_parameters_of_the_command_line_have_the_types_their_page_declares():
    parse = studies.parse_parameters
    assert parse("collect_sweeps", ["points=51", "models=[a, b]"]) == {"points": 51, "models": ["a", "b"]}
    assert parse("magnitude_pruning", ["model=123"]) == {"model": "123"}
    assert parse("your_model", ["epsilon=1e-3", "seed=010"]) == {"epsilon": 0.001, "seed": 10}
    for texts, sentence in (
        (["points"], "not of the form name=value"),
        (["points=3", "points=4"], "points is given twice"),
        (["models={a: 1, a: 2}"], "the value of parameter models cannot be read"),
    ):
        with pytest.raises(UserError, match=sentence):
            parse("collect_sweeps", texts)


@pytest.mark.parametrize("page", pages.pages())
def test_every_parameter_of_a_page_has_a_type_a_default_and_a_help_text(page):
    for parameter in pages.parameters_of(page).values():
        assert parameter["inferred_type_name"] in studies.TYPES
        assert parameter["default"]
        assert parameter["help"]
