"""The page has a row for each release, and the table says no where a test failed or did not run."""

from tests.matrix.table import COLUMNS, PAGE, STATUS, Outcome, rendered
from tests.matrix.versions import IN_EVERY_TEST_RUN, RELEASES, Release

WORKS = [
    Outcome("1", test, True, {STATUS: 422} if len(tests) == 1 and "refused" in test else {})
    for tests in COLUMNS.values()
    for test in tests
]


def test_each_release_of_the_matrix_has_its_row_and_works() -> None:
    rows = {
        line.split("|")[1].split()[0]: line
        for line in PAGE.read_text().splitlines()
        if line.startswith(("| 1.", "| 2."))
    }

    assert [version for version in rows if version in {one.version for one in RELEASES}] == [
        one.version for one in RELEASES
    ]
    assert [row for row in rows.values() if "**no**" in row] == []


def test_what_every_run_covers_is_part_of_the_matrix() -> None:
    assert set(IN_EVERY_TEST_RUN) < {one.version for one in RELEASES}
    assert (RELEASES[0].version, RELEASES[-1].version) == IN_EVERY_TEST_RUN


def test_a_failed_or_a_missing_test_is_a_no() -> None:
    release = Release("1")
    (row,) = rendered([release], WORKS).splitlines()[2:]
    assert row == "| 1 | yes | 422 | yes | yes |"

    for broken in WORKS:
        failed = [Outcome("1", one.test, one is not broken, one.properties) for one in WORKS]
        missing = [one for one in WORKS if one is not broken]
        assert "**no**" in rendered([release], failed)
        assert "**no**" in rendered([release], missing)
