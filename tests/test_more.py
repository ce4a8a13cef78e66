"""A platform's expert that learns from images of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_train import SMALL, config, fingerprint, planted, recall_at_1, silent

from saywhere.batches import joined
from saywhere.config import load_config
from saywhere.errors import InputError
from saywhere.more import check_more, expert_config, view_config, with_more
from saywhere.train import train_layout
from saywhere.types import Platform

MORE = (
    "more.head.hidden=24",
    "more.head.dimension=12",
    "more.stage.epochs=30",
    "more.stage.batch_size=64",
    "more.stage.learning_rate=0.01",
    "train.layout=generalist",
)


def test_the_expert_learns_what_the_main_dataset_does_not_show() -> None:
    settings = config(*MORE)
    main, extra = planted(30, 0), planted(160, 7, platforms=1)
    # The extra images are seen through another camera: the generalist cannot know it.
    mirrored = replace(extra, views=np.ascontiguousarray(extra.views[:, ::-1]))
    test = planted(60, 8, platforms=1)
    test = replace(test, views=np.ascontiguousarray(test.views[:, ::-1]))
    plain = train_layout(main, settings, silent)
    experts = with_more(plain, main, mirrored, settings, silent)
    assert [expert.platform for expert in experts] == [Platform.SATELLITE, None]
    assert fingerprint(experts[1:]) == fingerprint(plain)  # the generalist is untouched
    assert recall_at_1(experts[0], test) > 0.5
    assert recall_at_1(experts[1], test) < 0.2
    again = with_more(plain, main, mirrored, settings, silent)
    assert fingerprint(again) == fingerprint(experts)


def test_the_expert_takes_the_place_of_the_one_that_was_there() -> None:
    settings = config(*MORE, "train.layout=both", "more.stage.epochs=1")
    main = planted(30, 0)
    before = train_layout(main, settings, silent)
    after = with_more(before, main, planted(30, 7, platforms=1), settings, silent)
    assert [expert.platform for expert in after] == [expert.platform for expert in before]
    assert fingerprint(after[:1]) != fingerprint(before[:1])
    assert fingerprint(after[1:]) == fingerprint(before[1:])


@pytest.mark.parametrize(("share", "seen"), [(0, 310), (0.125, 350), (0.5, 600)])
def test_images_of_the_main_dataset_are_repeated_to_their_share(share: float, seen: int) -> None:
    settings = config(*MORE, f"more.share={share}", "more.stage.epochs=0")
    lines: list[str] = []
    with_more((), planted(30, 0), planted(300, 7, platforms=1), settings, lines.append)
    assert f"from {seen} images" in lines[0]


def test_joined_sets_share_no_place_and_no_text() -> None:
    first, second = planted(6, 0), planted(4, 1)
    both = joined(first, second)
    assert len(both) == 10
    assert len(np.unique(both.places)) == 10
    assert len(np.unique(both.text_codes)) == 20
    np.testing.assert_array_equal(both.take(np.arange(6, 10)).views, second.views)
    np.testing.assert_array_equal(both.take(np.arange(6)).texts, first.texts)


def test_settings_of_the_expert_and_of_its_views() -> None:
    settings = load_config(overrides=[*SMALL, "more.members=3", "more.views=2", "views.degraded=7"])
    of_expert = expert_config(settings)
    assert of_expert.train.layout == "generalist"
    assert of_expert.train.members == 3
    assert of_expert.head == settings.more.head
    assert of_expert.train.stage2.epochs == 0
    views = view_config(settings).views
    assert (views.test, views.train, views.degraded) == (settings.views.test[:2], 2, 0)


def test_adapters_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"adapters\.text\.rank=0"):
        check_more(load_config("small-lora"))
