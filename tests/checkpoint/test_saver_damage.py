"""A checkpoint that is damaged: never other values, always an error, or the damage is harmless.

Some bits and lengths; `prove_saver.py` takes them all.
"""

import pytest
from saver_faults import damage


@pytest.mark.parametrize("layout", damage.LAYOUTS)
def test_no_damage_gives_other_values_or_another_error(tmp_path, layout):
    damage.save(tmp_path, **damage.LAYOUTS[layout])
    for tally in damage.every(tmp_path, layout, stride=101):
        assert tally.points > 30
        assert tally.outcomes["reported"]
        assert not tally.problems


def test_every_flipped_bit_of_an_array_is_told_with_file_and_variable(tmp_path):
    damage.save(tmp_path)
    found = damage.flips_of_values(tmp_path, stride=7)
    assert found.points > 50
    assert found.outcomes == {"reported": found.points}


def test_a_wrong_value_would_be_found_out(tmp_path):
    """Without checksums, some flipped bits give other values."""
    damage.save(tmp_path)
    found = damage.flips_of_values(tmp_path, stride=7, verify=False)
    assert found.count("wrong")
