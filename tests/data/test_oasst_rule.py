import pytest

from preferans.data.oasst_rule import PairingRule


@pytest.mark.parametrize("choice", [{"turns": "last"}, {"pairing": "random"}])
def test_refuses_unknown_turns_and_pairings(choice):
    with pytest.raises(ValueError, match="must be one of"):
        PairingRule(**choice)
