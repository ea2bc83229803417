import pytest
from prunecast.errors import UserError, check_epsilon


@pytest.mark.parametrize("epsilon", [0, 1, -0.1, 3, float("nan"), float("inf")])
def test_an_epsilon_outside_zero_to_one_is_refused(epsilon: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        check_epsilon(epsilon)


def test_an_epsilon_between_zero_and_one_is_taken() -> None:
    assert check_epsilon(0.01) == 0.01
