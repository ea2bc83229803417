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
        (
            GOOD | {"pages": {"collect": {}}},
            "no page 'collect'; there are campaign, collect_sweeps, effective_number, energy",
        ),
        (
            GOOD | {"pages": {"collect_sweeps": {"point": 3}}},
            "collect_sweeps has no parameter 'point'; it has criteria, exact, measured, models, points",
        ),
        (GOOD | {"pages": {"collect_sweeps": {"points": "many"}}}, "points .* must be of type int, not 'many'"),
        (GOOD | {"pages": {"collect_sweeps": {"points": True}}}, "must be of type int, not True"),
        (GOOD | {"pages": {"collect_sweeps": {"points": 3.5}}}, "must be of type int, not 3.5"),
        (GOOD | {"pages": {"collect_sweeps": {"models": "tiny"}}}, "must be of type list, not 'tiny'"),
        (GOOD | {"pages": {"collect_sweeps": {"run": "elsewhere"}}}, "no parameter 'run'"),
        (["a", "list"], "no mapping of study, purpose, threads, pages"),
    ],
)
def test_a_wrong_study_is_refused_in_one_sentence_that_names_what_is_allowed(content, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        studies.check_study(content, "s.yml")
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_yaml_is_refused_with_its_line(tmp_path):
    (tmp_path / "bad.yml").write_text("study: s\npages: {unclosed\n")
    with pytest.raises(UserError, match=r"bad\.yml is not YAML: see line 3"):
        studies.read_study(tmp_path / "bad.yml")
    with pytest.raises(UserError, match="cannot be read"):
        studies.read_study(tmp_path / "none.yml")


def test_parameters_of_the_command_line_have_the_types_their_page_declares():
    parse = studies.parse_parameter
    assert parse("collect_sweeps", "points=51") == ("points", 51)
    assert parse("collect_sweeps", "models=[a, b]") == ("models", ["a", "b"])
    assert parse("magnitude_pruning", "model=123") == ("model", "123")
    with pytest.raises(UserError, match="not of the form name=value"):
        parse("collect_sweeps", "points")


@pytest.mark.parametrize("page", pages.pages())
def test_every_parameter_of_a_page_has_a_type_a_default_and_a_help_text(page):
    for parameter in pages.parameters_of(page).values():
        assert parameter["inferred_type_name"] in studies.TYPES
        assert parameter["default"]
        assert parameter["help"]
