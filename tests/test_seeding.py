import random
from typing import Any

import numpy as np
import torch
from prunecast.forecasting import pretrained
from prunecast.forecasting.predict import largest_safe, predict
from prunecast.forecasting.subjects import Subject
from prunecast.models.checkpoints import TrainedModel
from prunecast.seeding import generator, seed_everything


def _global_states() -> list[Any]:
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 - the state that must not change
    return [random.getstate(), repr(numpy_state), torch.get_rng_state().tolist()]


def test_both_ways_of_seeding_draw_the_same_numbers_and_names_draw_others() -> None:
    drawn = generator(3, "a", "b").random(4).tolist()
    assert seed_everything(3, "a", "b").random(4).tolist() == drawn
    assert generator(3, "a", "c").random(4).tolist() != drawn
    assert generator(4, "a", "b").random(4).tolist() != drawn


def test_the_global_states_are_a_function_of_seed_and_names_after_seeding_and_untouched_by_a_generator() -> None:
    seed_everything(0, "one")
    first = _global_states()
    generator(1, "other").random(10)
    assert _global_states() == first
    seed_everything(0, "two")
    assert all(state != before for state, before in zip(_global_states(), first, strict=True))
    seed_everything(0, "one")
    assert _global_states() == first


def test_a_forecast_and_a_search_leave_the_global_random_states_as_they_are(subject: TrainedModel) -> None:
    before = _global_states()
    predict(Subject(subject, None, ()), pretrained.load(), 0.01)
    largest_safe(subject, "global", 0.01, 0.3)
    assert _global_states() == before
