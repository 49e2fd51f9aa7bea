"""The protocol of saves in a store: its functions, run in all orders, with crashes at any point."""

import pytest
from saver_faults.interleavings import (
    PARTS,
    STEP,
    Scene,
    Store,
    clean,
    evict,
    explore,
    save,
    wander,
)

from jscope._errors import CheckpointError
from jscope.saver import _claims


class NoProcess(set):
    """The saves of this process: the processes of a scene are others, and taken for crashed."""

    def add(self, save_id):
        pass


@pytest.fixture(autouse=True)
def other_processes(monkeypatch):
    monkeypatch.setattr(_claims, "_claimed", NoProcess())


def scene(*processes, crashing=(), most=1, before=()):
    return Scene(processes, frozenset(crashing), most, before)


STALE = f"{STEP}/{'f' * 32}/0"


IN_ALL_ORDERS = {
    "a save that looks again after its data, beside a cleaner": scene(
        save("a", looks=2), clean, crashing={0, 1}
    ),
    "two saves that look again at different times": scene(
        save("a", looks=1), save("b", looks=2), crashing={0}
    ),
    "a save beside a cleaner": scene(save("a"), clean, crashing={0, 1}),
    "two saves that may not overwrite": scene(save("a"), save("b"), crashing={0, 1}),
    "a save beside a cleaner of stale data": scene(save("a"), clean, before=(STALE,)),
    "a save and an overwriting one": scene(
        save("a"), save("b", overwrite=True), crashing={0, 1}, most=2
    ),
    "a save beside an eviction": scene(save("a"), evict, crashing={0}),
}
IN_RANDOM_ORDERS = {
    "two saves beside a cleaner": scene(save("a"), save("b"), clean, crashing={0, 1}),
    "an overwriting save beside a cleaner": scene(
        save("a"), save("b", overwrite=True), clean, crashing={0, 1}, most=2
    ),
    "two overwriting saves beside an eviction": scene(
        save("a", overwrite=True), save("b", overwrite=True), evict, crashing={0, 1}, most=2
    ),
    "a save, an eviction and a cleaner": scene(save("a"), evict, clean, crashing={0, 1}),
    "all at once": scene(
        save("a"), save("b", overwrite=True), evict, clean, crashing={0, 1, 2}, most=2
    ),
    "a save beside two cleaners": scene(save("a"), clean, clean, crashing={0}),
    "all at once, looking again late": scene(
        *(save("a", looks=2), save("b", overwrite=True, looks=1), evict, clean),
        crashing={0, 1, 2},
        most=2,
    ),
    "two overwriting saves that look again late": scene(
        *(save("a", overwrite=True, looks=2), save("b", overwrite=True, looks=2), clean),
        crashing={0, 1},
        most=2,
    ),
}


@pytest.mark.parametrize("name", IN_ALL_ORDERS)
def test_in_every_order_what_is_listed_loads_and_what_was_reported_stays(name):
    states, wrong = explore(IN_ALL_ORDERS[name])
    assert not wrong
    assert states > 100


@pytest.mark.parametrize("name", IN_RANDOM_ORDERS)
def test_in_random_orders_what_is_listed_loads_and_what_was_reported_stays(name):
    assert not wander(IN_RANDOM_ORDERS[name], runs=150)


# That what is wrong would be found.


def test_a_cleaner_that_looks_and_does_not_make_sure_is_found_out(monkeypatch):
    def look(names, step, number, save_id):
        found = _claims._listed(names, step)
        if not any(index.save_id == save_id for index in found.indices):
            names.remove(f"{step}/{name}" for name in found.data.get(save_id, ()))

    monkeypatch.setattr(_claims, "_stop", look)
    _, wrong = explore(scene(save("a"), clean))
    assert "listed, but does not load" in wrong


def test_a_writer_that_does_not_look_again_is_found_out(monkeypatch):
    monkeypatch.setattr(_claims.Claim, "look_again", lambda claim, overwrite, where: None)
    _, wrong = explore(scene(save("a"), save("b")))
    assert "too many succeeded" in wrong


def test_a_writer_that_commits_before_its_data_is_found_out():
    def hasty(store: Store) -> None:
        claim = _claims.Claim.take(store, STEP, "a" * 32, overwrite=False, where="", now=0.0)
        claim.look_again(overwrite=False, where="")
        claim.commit(b"a")
        for part in PARTS:
            store.write(claim.data + part, b"data")
        claim.leave(has_committed=True)

    assert "listed, but does not load" in explore(scene(hasty))[1]


def test_data_that_are_removed_before_their_index_are_found_out(monkeypatch):
    def wrong_way(names, step, indices, found):
        for index in indices:
            names.remove(f"{step}/{name}" for name in found.data.get(index.save_id, ()))
            names.remove([f"{step}/{index.file}"])

    monkeypatch.setattr(_claims, "_remove", wrong_way)
    assert "listed, but does not load" in explore(scene(save("a"), evict))[1]


def test_a_cleaner_that_lists_the_data_last_is_found_out(monkeypatch):
    sweep = _claims._sweep

    def late(names, step, before, found):
        sweep(names, step, _claims._listed(names, step), found)

    monkeypatch.setattr(_claims, "_sweep", late)
    assert "listed, but does not load" in explore(scene(save("a"), clean, before=(STALE,)))[1]


def test_a_replaced_checkpoint_that_goes_first_is_found_out(monkeypatch):
    commit = _claims.Claim.commit

    def replaced_first(claim, index):
        claim.remove_replaced()
        commit(claim, index)

    monkeypatch.setattr(_claims.Claim, "commit", replaced_first)
    both = scene(save("a"), save("b", overwrite=True), crashing={1}, most=2)
    assert "reported, but lost" in explore(both)[1]


# Claims.


class Memory:
    """A store in memory."""

    def __init__(self):
        self.contents = {}

    def names(self, below=""):
        return [n for n in sorted(self.contents) if not below or n.startswith(f"{below}/")]

    def read(self, name):
        return self.contents.get(name)

    head = read

    def create(self, name, data):
        return self.contents.setdefault(name, data) == data

    def write(self, name, data):
        self.contents[name] = data

    def remove(self, names):
        for name in list(names):
            self.contents.pop(name, None)


def take(names, letter="a", now=0.0, **options):
    options = {"overwrite": False, "where": "run/12", **options}
    claim = _claims.Claim.take(names, STEP, letter * 32, now=now, **options)
    try:
        claim.look_again(overwrite=options["overwrite"], where="run/12")
    except CheckpointError:
        claim.leave(has_committed=False)
        raise
    return claim


def test_a_claim_of_a_process_that_lives_counts_until_its_lease_ends(monkeypatch):
    monkeypatch.setattr(_claims, "_is_alive", lambda process: True)
    names = Memory()
    claim = take(names)
    names.write(claim.data + "x", b"")
    with pytest.raises(CheckpointError, match=r"Step 12 is being saved to run/12, by process \d+"):
        take(names, "b")
    for now, is_there in ((99.0, True), (101.0, False)):
        _claims.clean(names, names.names(), lease=100.0, now=now)
        assert ("12/claim.1" in names.contents) == is_there
        assert (claim.data + "x" in names.contents) == is_there
    with pytest.raises(CheckpointError, match="took this save for one that has crashed"):
        claim.commit(b"index")
    assert take(names, "b", now=101.0).number == 2


def test_a_renewed_claim_counts_longer(monkeypatch):
    monkeypatch.setattr(_claims, "_is_alive", lambda process: True)
    names = Memory()
    claim = take(names)
    claim.renew(50.0)
    _claims.clean(names, names.names(), lease=100.0, now=149.0)
    claim.commit(b"index")
    claim.leave(has_committed=True)
    assert list(names.contents) == [f"12/jscope.1.{'a' * 32}.json"]


def test_a_claim_of_a_crashed_process_of_this_machine_ends_at_once():
    names = Memory()
    take(names)
    _claims.clean(names, names.names(), lease=1e9, now=0.0)
    assert list(names.contents) == [f"12/jscope.1.{'a' * 32}.json"]
    assert _claims.is_void(names.contents[f"12/jscope.1.{'a' * 32}.json"])


def test_the_claims_of_this_process_are_not_its_own_to_clean(monkeypatch):
    monkeypatch.setattr(_claims, "_claimed", set())
    names = Memory()
    claim = take(names)
    _claims.clean(names, names.names(), lease=-1.0, now=0.0)
    claim.commit(b"index")
    claim.leave(has_committed=True)
    assert not _claims._claimed


def test_a_claim_that_cannot_be_read_is_left_alone():
    names = Memory()
    names.write("12/claim.1", b"damaged")
    names.write(f"12/{'b' * 32}/x", b"")
    _claims.clean(names, names.names(), lease=-1.0, now=0.0)
    assert len(names.contents) == 2


def test_names_of_others_stay_and_a_checkpoint_copied_from_a_disk_is_replaced_whole():
    names = Memory()
    for name in ("jscope.json", "packed.bin", "0/zarr.json", "notes.txt", "claim.x"):
        names.write(f"12/{name}", b"")
    names.write("checkpoint", b"")
    with pytest.raises(CheckpointError, match="Step 12 is saved already, in run/12"):
        take(names)
    claim = take(names, overwrite=True)
    names.write(claim.data + "0", b"")
    claim.commit(b"index")
    claim.remove_replaced()
    claim.leave(has_committed=True)
    kept = {f"12/jscope.1.{'a' * 32}.json", claim.data + "0", "12/notes.txt", "12/claim.x"}
    assert names.contents.keys() == kept | {"checkpoint"}
    _claims.evict(names, STEP)
    assert names.contents.keys() == {"12/notes.txt", "12/claim.x", "checkpoint"}
