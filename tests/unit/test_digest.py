"""Whose data differ: rounds of digests, compared."""

import pytest

from perdure.detect import digest
from perdure.detect.digest import Compared, Rounds
from perdure.model.verdict import Sign


def played(*rounds: str) -> tuple[Rounds, dict[str, Compared]]:
    """Rounds such as "aab": one letter for each replica, `-` for no answer."""
    seen, compared = Rounds(), {str(place): Compared() for place in range(len(rounds[0]))}
    for letters in rounds:
        answers = {str(place): letter for place, letter in enumerate(letters) if letter != "-"}
        seen = digest.observe(seen, answers)
        compared = {replica: digest.compare(before, seen, replica) for replica, before in compared.items()}
    return seen, compared


@pytest.mark.parametrize(
    ("rounds", "convicted"),
    [
        (["aab"] * 3, {"2"}),
        (["aab"] * 2, set()),
        (["aaa"] * 5, set()),
        (["aab", "aaa", "aab", "aab"], set()),  # it agreed once: the count begins anew
        (["aabb"] * 9, set()),  # half is no majority
        (["ab"] * 9, set()),
        (["abc"] * 9, set()),
        (["aaabb"] * 3, {"3", "4"}),
        (["aab", "aa-", "aab", "aab"], {"2"}),  # silence is no answer, neither good nor bad
        (["--a"] * 9, set()),  # one alone
        (["aaa", "bba", "bba", "bba"], set()),  # it says what was right a moment ago
        (["aaa", *["bba"] * 3, "bba", "bba", "bba"], {"2"}),  # it stays behind
        (["baa", "bba", "cbb", "ccb", "dcc", "ddc"], set()),  # each write reaches one after the other
        (["aaa", "bba", "cca", "dda", "eea", "ffa", "gga", "hha"], {"2"}),  # it learns nothing any more
    ],
)
def test_who_says_something_else_than_the_majority_three_times_is_apart(rounds: list[str], convicted: set[str]) -> None:
    _, compared = played(*rounds)
    verdicts = {replica: digest.judge(one, "digest /digest") for replica, one in compared.items()}
    assert {replica for replica, verdict in verdicts.items() if verdict is not None} == convicted
    assert all(verdict is None or verdict.sign is Sign.DIVERGED for verdict in verdicts.values())


def test_the_verdict_says_what_both_sides_say() -> None:
    _, compared = played(*["aab"] * 4)
    verdict = digest.judge(compared["2"], "digest /digest")
    assert verdict is not None
    assert verdict.sentence == "its data differ: digest /digest says b, 2 of 3 replicas say a (4 times in a row)"


@pytest.mark.parametrize(
    ("rounds", "told"),
    [
        (["ab"] * 3, True),
        (["ab"] * 2, False),
        (["ab", "ab", "aa", "ab"], False),
        (["aab"] * 5, False),
        (["abc"] * 3, True),
        (["ab", "ab", "a-", "ab"], False),
    ],
)
def test_differences_without_a_majority_are_told(rounds: list[str], told: bool) -> None:
    seen, _ = played(*rounds)
    assert bool(digest.undecided(seen, "digest /digest")) is told


def test_without_a_majority_each_side_is_named() -> None:
    seen, _ = played(*["aabbc"] * 3)
    assert digest.undecided(seen, "digest") == (
        "the replicas' data differ and no side has a majority (digest: 2 say a, 2 say b, 1 says c)"
    )


def test_a_replica_that_agrees_again_is_counted_in_rounds() -> None:
    _, compared = played(*["aab"] * 3, *["aaa"] * 2)
    assert (compared["2"].apart, compared["2"].agreed) == (0, 2)


@pytest.mark.parametrize(("rounds", "soon"), [(["aaa"], False), (["aab"], True), (["aab"] * 3, False)])
def test_the_next_round_comes_soon_while_somebody_is_apart_and_not_convicted(rounds: list[str], soon: bool) -> None:
    _, compared = played(*rounds)
    assert digest.suspects(list(compared.values())) is soon
