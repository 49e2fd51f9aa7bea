"""A Saver whose file operations fail, whose process dies, or whose disk forgets.

Some points of each; `prove_saver.py` tries them all.
"""

import pytest
from saver_faults import checks, plain_orbax
from saver_faults.disk import Disk
from saver_faults.faults import MODES, READ_MODES, Faults
from saver_faults.injector import Operation
from saver_faults.power_cut import Recording
from saver_faults.scenarios import SCENARIOS, Scenario


@pytest.fixture(scope="module")
def faults(server, tmp_path_factory):
    return Faults(server, tmp_path_factory.mktemp("faults"))


def check(tally):
    assert tally.points
    assert not tally.problems


@pytest.mark.parametrize(
    ("scenario", "mode"),
    [
        *((scenario, "kill") for scenario in SCENARIOS),
        *((scenario, "ENOSPC for good") for scenario in ("overwrite", "retention", "best")),
        *((scenario, "EIO once") for scenario in ("async save", "kept for good")),
    ],
)
def test_a_fault_at_any_step_of_the_commit_leaves_the_old_or_the_new(faults, scenario, mode):
    tally = faults.commits(scenario, mode)
    check(tally)
    assert tally.outcomes["old"]
    assert tally.outcomes["new"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_fault_anywhere_leaves_the_old_or_the_new(faults, scenario, mode):
    check(faults.some(scenario, mode, 3 if mode == "kill" else 2))


@pytest.mark.parametrize("mode", READ_MODES)
def test_a_read_that_fails_or_gives_less_is_told_or_harmless(faults, mode):
    check(faults.reading("next save", mode, stride=3))


@pytest.fixture(scope="module")
def recordings(faults, tmp_path_factory):
    return {
        name: Recording(faults, tmp_path_factory.mktemp("recording"), name) for name in SCENARIOS
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_unsynced_when_a_save_returns(recordings, scenario):
    recording = recordings[scenario]
    # The model of the disk saw every operation, or it would end up with other files.
    assert not recording.missed
    assert not recording.unsynced


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_power_cut_leaves_the_old_or_the_new(recordings, scenario):
    for tally in recordings[scenario].cut(mixtures=2, most=3):
        check(tally)


# That what is found above would be found.


def test_a_save_that_syncs_nothing_is_found_out(recordings):
    recording = recordings["overwrite"]
    careless = recording.without("sync")
    assert careless.unsynced
    kinds = {kind for tally in careless.cut(mixtures=3, most=8) for kind, _, _ in tally.problems}
    assert {"lost", "wrong"} <= kinds


def test_a_save_that_deletes_first_is_found_out(tmp_path):
    scenario = SCENARIOS["overwrite the only"]
    scenario.prepare(str(tmp_path))
    assert not checks.problems(tmp_path, scenario, "either")
    assert {kind for kind, _ in checks.problems(tmp_path, scenario, "new")} == {"wrong"}
    (tmp_path / "run" / "1" / "jscope.json").unlink()
    assert {kind for kind, _ in checks.problems(tmp_path, scenario, "either")} == {"lost"}


def test_what_loses_checkpoints_is_found_out(server, tmp_path):
    """Orbax deletes the old checkpoint before it writes the new one."""
    tally = plain_orbax.killed(server, tmp_path, most=8)
    assert tally.count("lost") > 4


def test_a_wrong_value_is_found_out(tmp_path):
    Scenario({}, 1, 7, {}).act(SCENARIOS["first save"].saver(str(tmp_path)))
    found = checks.problems(tmp_path, SCENARIOS["first save"], "either")
    assert [kind for kind, _ in found] == ["wrong"]


def test_the_disk_forgets_what_posix_lets_it_forget(tmp_path):
    def op(kind, path, other="", number=0, data=b""):
        return Operation(kind, f"{tmp_path}/{path}", f"{tmp_path}/{other}", number, data)

    (tmp_path / "old").write_bytes(b"old")
    disk = Disk(tmp_path)
    for operation in (
        op("mkdir", "dir"),
        op("open", "dir/new"),
        op("write", "dir/new", data=b"12345678"),
        op("sync", "dir/new"),
        op("write", "dir/new", number=8, data=b"90"),
        op("rename", "dir/new", "old"),
    ):
        disk.apply(operation)
    assert disk.now() == {"dir": None, "old": b"1234567890"}
    assert disk.after_cut("forgetful") == {"old": b"old"}
    assert disk.after_cut("names") == {"dir": None, "old": b"12345678"}
    assert disk.after_cut("zeros") == {"dir": None, "old": b"12345678\0\0"}
    mixtures = [disk.after_cut("mixture", seed) for seed in range(200)]
    assert {"dir": None, "dir/new": b"12345678", "old": b"old"} in mixtures
    assert {"dir": None, "old": b"123456789"} in mixtures
    # A name is never there before what it depends on, and a rename never by half.
    assert all("old" in state and len(state.get("dir/new", b"12345678")) >= 8 for state in mixtures)
    assert disk.unsynced() == [
        "data of old",
        "name of dir",
        "name of dir/new",
        "removal of dir/new",
        "name of old",
    ]
    disk.apply(op("sync", "."))
    # The root was synced, and with it the rename out of `dir` and the file's name there.
    assert disk.after_cut("forgetful") == {"dir": None, "old": b"12345678"}
    assert disk.unsynced() == ["data of old"]
