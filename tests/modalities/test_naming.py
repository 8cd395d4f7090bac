"""File names of items: the items' own where they have some, and never a way out of the directory."""

import pytest

from raectl.modalities.naming import file_names


def test_items_without_names_are_numbered_so_that_they_sort():
    assert file_names((), 3, ".png") == ["000000.png", "000001.png", "000002.png"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.jpg", "a_b.png"),
        ("cat.PNG", "cat.png"),
        ("frame.0001", "frame.0001.png"),  # a number is no extension
        ("../../etc/passwd", "_.._etc_passwd.png"),
        ("..", "item.png"),
        ("", "item.png"),
        (".hidden.png", "hidden.png"),
        ("C:\\x\\y.bmp", "C__x_y.png"),
        ("line\nbreak\x00\x1b[31m.png", "line_break__[31m.png"),
        ("日本/猫.webp", "日本_猫.png"),
        ("bad\udcff.png", "bad_.png"),  # an undecodable byte of a file name
    ],
)
def test_a_name_becomes_one_safe_component(name, expected):
    assert file_names((name,), 1, ".png") == [expected]


def test_names_that_become_equal_are_told_apart_even_where_case_does_not_count():
    names = ("x.jpg", "x.png", "X.gif", "x-2.png", "a/x", "a_x")
    assert file_names(names, 6, ".png") == ["x.png", "x-2.png", "X-3.png", "x-2-2.png", "a_x.png", "a_x-2.png"]


def test_a_long_name_keeps_its_end_and_fits_the_file_system():
    long = ["猫" * 300 + f"/{i}.png" for i in range(3)]
    names = file_names(long, 3, ".png")
    assert len(set(names)) == 3 and names[1].endswith("_1.png")
    assert all(len(name.encode()) <= 255 for name in names)


def test_names_for_only_some_of_the_items_are_a_mistake():
    with pytest.raises(ValueError, match="1 names for 2 items"):
        file_names(("a",), 2, ".png")
