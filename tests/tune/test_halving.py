"""Which trial is stopped at which epoch: rungs at 1, 3 and 9 epochs, by hand."""

from ray_cxr.tune.halving import Halving


def test_the_best_third_goes_on() -> None:
    halving = Halving(epochs=10, grace_epochs=1, reduction_factor=3)
    # At the first rung each is held against the two thirds quantile of those before it, by linear interpolation.
    assert not halving.stops(0, 1, 0.6)  # nobody to compare with
    assert halving.stops(1, 1, 0.5)  # below 0.6
    assert not halving.stops(2, 1, 0.7)  # above the quantile of 0.5, 0.6: 0.567
    assert halving.stops(3, 1, 0.62)  # below that of 0.5, 0.6, 0.7: 0.633


def test_between_rungs_nothing_is_stopped() -> None:
    halving = Halving(epochs=10, grace_epochs=1, reduction_factor=3)
    for number, value in enumerate([0.9, 0.95]):
        assert not halving.stops(number, 1, value)
    assert not halving.stops(0, 2, 0.1)
    assert not halving.stops(0, 3, 0.9)
    assert halving.stops(1, 3, 0.89)


def test_the_last_epoch_stops_nobody() -> None:
    """A rung at the last epoch would call a whole training stopped."""
    halving = Halving(epochs=3, grace_epochs=3, reduction_factor=3)
    assert not halving.stops(0, 3, 0.9)
    other = Halving(epochs=4, grace_epochs=1, reduction_factor=3)
    other.restore(0, {1: 0.9, 2: 0.9, 3: 0.9, 4: 0.9})
    assert [other.stops(1, epoch, value) for epoch, value in enumerate([0.9, 0.9, 0.9, 0.1], 1)] == [
        False
    ] * 4


def test_a_search_that_goes_on_decides_as_if_never_cut() -> None:
    values = {0: {1: 0.6, 2: 0.61, 3: 0.62}, 1: {1: 0.5}, 2: {1: 0.7, 2: 0.7}}
    whole = Halving(epochs=9, grace_epochs=1, reduction_factor=3)
    for number, epoch in [(0, 1), (0, 2), (1, 1), (0, 3), (2, 1), (2, 2)]:
        whole.stops(number, epoch, values[number][epoch])
    again = Halving(epochs=9, grace_epochs=1, reduction_factor=3)
    for number, own in values.items():
        again.restore(number, own)
    for number, epoch, value in [(2, 3, 0.61), (3, 1, 0.62), (4, 1, 0.69)]:
        assert again.stops(number, epoch, value) == whole.stops(number, epoch, value)
