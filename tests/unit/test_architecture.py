"""The picture of imports in ARCHITECTURE.md is that of the code, and its floors are floors."""

import pytest

from tests.architecture import PAGE, TARGET, Floor, floors, picture, rooms_of
from tests.pages import part, rewritten


def test_the_page_has_the_picture_of_the_code() -> None:
    assert part(PAGE.read_text(encoding="utf-8"), TARGET) == picture(), "`make architecture` writes it anew"


def test_a_room_is_above_all_that_it_imports() -> None:
    arrows = {"top": {"left", "low"}, "left": {"low"}, "right": {"low"}, "low": set[str]()}

    assert floors({room: frozenset(imports) for room, imports in arrows.items()}) == [
        Floor(3, ("top",), ("left", "low")),
        Floor(2, ("left",), ("low",)),
        Floor(2, ("right",), ("low",)),
        Floor(1, ("low",), ()),
    ]


def test_rooms_that_import_one_another_share_a_floor() -> None:
    arrows = {"top": {"a"}, "a": {"b"}, "b": {"c"}, "c": {"a", "low"}, "low": set[str]()}

    assert floors({room: frozenset(imports) for room, imports in arrows.items()}) == [
        Floor(3, ("top",), ("a",)),
        Floor(2, ("a", "b", "c"), ("low",)),
        Floor(1, ("low",), ()),
    ]


def test_a_room_is_a_folder_or_a_module_in_none() -> None:
    modules = ("pack", "pack.one", "pack.room", "pack.room.a", "pack.room.deep.b", "package.other")

    assert rooms_of("pack", modules) == {
        "pack.one": "one",
        "pack.room": "room/",
        "pack.room.a": "room/",
        "pack.room.deep.b": "room/",
    }


def test_only_the_part_between_the_marks_is_rewritten() -> None:
    page = "a\n<!-- bread: written by `make bread` -->\nold\n<!-- end of bread -->\nb\n"

    assert part(page, "bread") == "old\n"
    assert rewritten(page, "bread", "new\n") == page.replace("old", "new")
    with pytest.raises(ValueError, match="has no part between"):
        rewritten(page, "butter", "new\n")
