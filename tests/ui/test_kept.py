"""What is rendered is kept while it is made of the same."""

from workbench.ui.render.kept import Kept


def test_a_part_is_made_anew_only_when_what_it_is_made_of_has_changed():
    kept, made = Kept(), []

    def part(name: str, *of: object) -> str:
        return kept(name, of, lambda: made.append(name) or f"{name} of {of}")

    assert [part("a", 1, [2]), part("a", 1, [2]), part("b", 1)] == ["a of (1, [2])"] * 2 + ["b of (1,)"]
    assert part("a", 1, [3]) == "a of (1, [3])"
    assert made == ["a", "b", "a"]
