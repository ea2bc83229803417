import pytest
from prunecast import paths, tables
from prunecast.errors import UserError
from prunecast.workflow import pages


@pytest.mark.parametrize("page", pages.pages())
def test_the_header_names_files_there_are_and_tables_with_a_contract(page):
    files = pages.files_of(page)
    known = {tables.file_name(name) for name in tables.contracts()}
    assert set(files.writes) <= known
    for file in files.reads:
        if file.startswith("tables/"):
            assert file.removeprefix("tables/") in known
        else:
            assert (paths.ROOT / file).exists()


def test_every_table_is_written_by_one_page_at_most():
    written = [table for page in pages.pages() for table in pages.files_of(page).writes]
    assert len(written) == len(set(written))


def test_an_unknown_page_is_answered_with_the_names_there_are():
    with pytest.raises(UserError, match="there is no page 'pruning'; there are .*campaign, collect_sweeps"):
        pages.files_of("pruning")
