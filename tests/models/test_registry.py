from prunecast.models import zoo

SETTINGS = {"family", "base", "epochs", "batch_size", "weight_decay"}


def test_a_variant_differs_from_its_base_by_settings_of_training_alone() -> None:
    registry = zoo.registry()
    variants = {name: spec for name, spec in registry.items() if spec.base}
    assert variants
    for name, spec in variants.items():
        base = registry[spec.base]
        assert not base.base, name
        assert spec.model_dump(exclude=SETTINGS) == base.model_dump(exclude=SETTINGS), name
        assert spec != base


def test_what_groups_a_model_does_not_train_it_anew() -> None:
    spec = zoo.spec_of("mnist_fc5")
    assert spec.model_copy(update={"family": "other", "base": "b"}).training_settings == spec.training_settings
    assert spec.model_copy(update={"epochs": 9}).training_settings != spec.training_settings
