import pytest

from bench.audit import read

GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "unheard", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("packages", "exit_code"),
    [([GOOD], 0), ([GOOD, BAD], 1), ([BAD, SKIPPED], 1), ([GOOD, SKIPPED], 2), ([SKIPPED], 2), ([], 2)],
)
def test_only_an_answer_about_every_package_is_a_pass(packages: list[dict], exit_code: int) -> None:
    assert read({"dependencies": packages}).exit_code == exit_code


def test_a_vulnerability_is_told_with_the_release_that_mends_it() -> None:
    assert read({"dependencies": [BAD]}).vulnerable == ["bad 2: PYSEC-1, fixed in 3"]
