"""A save to S3 of which one request goes wrong: the old or the new checkpoint is whole, always.

`prove_saver.py` tries every request.
"""

import pytest
from saver_faults.stores import MODES, SCENARIOS, debris, tried

from jscope.saver import Saver, _claims

# Of a save's requests some: those that list, claim, write data, create the index, write the state.
POINTS = (2, 5, 7, 10, 14)


@pytest.mark.parametrize("mode", ["killed before", "killed after"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_any_request_the_old_or_the_new_is_there(s3, proxy, scenario, mode):
    tally = tried(s3, proxy, scenario, mode)
    assert not tally.problems
    assert tally.points > 5
    assert tally.outcomes.keys() == {"old", "new"}


@pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.startswith("killed")])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_request_that_fails_once_is_repeated(s3, proxy, scenario, mode):
    tally = tried(s3, proxy, scenario, mode, POINTS)
    assert not tally.problems
    assert tally.outcomes == {"new": len(POINTS)}


# That what is wrong would be found.


def test_an_overwriting_save_that_removes_first_is_found_out(s3, proxy, monkeypatch):
    commit = _claims.Claim.commit

    def removed_first(claim, index):
        claim.remove_replaced()
        commit(claim, index)

    monkeypatch.setattr(_claims.Claim, "commit", removed_first)
    tally = tried(s3, proxy, "an overwriting save", "killed before", range(5, 9))
    assert tally.count("lost")


def test_a_save_that_leaves_its_claim_is_found_out(s3, monkeypatch):
    monkeypatch.setattr(_claims.Claim, "leave", lambda claim, has_committed: None)
    saver = Saver(s3.url("run"))
    saver.save({"x": 1}, 1)
    assert debris(saver) == ["1/claim.1"]
