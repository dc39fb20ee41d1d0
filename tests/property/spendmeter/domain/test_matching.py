"""Laws of matching: the index finds what a look at every budget finds, and no memory goes stale."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from itertools import product

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spendmeter.contract.budget import ANY, Budget
from spendmeter.domain.globs import fits
from spendmeter.domain.matching import BudgetBook, Subject
from spendmeter.values.account import account_name, budget_id_of, has_subject, is_account, subject_in
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from tests.builders import budget

FEW: tuple[Dimension, ...] = ("key", "user", "team", "tag", "model")
values = st.sampled_from(["a", "b", "c|&=%"])
models = st.sampled_from(["gpt-4o", "gpt-4o-mini", "o1-mini", "openai/gpt-4o", "azure/gpt-4o"])
globs = st.sampled_from(["gpt-4*", "*mini", "g*-*i", "*4o*", "*-mini", "gpt-4o*mini", "openai/*", "*/gpt-4o"])
ids = st.sampled_from(["b1", "b2", "b3", "b4", "b5"])


matches = st.fixed_dictionaries(
    {}, optional={d: (models | globs if d == "model" else values) | st.just(ANY) for d in FEW}
)


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    id_ = draw(ids)
    return budget(
        id=id_,
        match=draw(matches),
        replaces=draw(st.none() | ids.filter(lambda other: other != id_)),
        revision=draw(st.integers(1, 3)),
    )


subjects = st.builds(
    Subject,
    key=st.none() | values,
    user=st.none() | st.just("") | values,
    team=st.none() | values,
    tags=st.lists(values, max_size=3, unique=True).map(tuple),
    model=st.none() | models,
    provider=st.none() | st.sampled_from(["openai", "azure"]),
)


def _is_pattern(dimension: Dimension, wanted: str) -> bool:
    return dimension == "model" and len(wanted) > 1 and "*" in wanted


def _is_wanted(dimension: Dimension, wanted: str, value: str, provider: str | None) -> bool:
    if wanted == ANY:
        return True
    names = {value, f"{provider}/{value}"} if dimension == "model" and provider else {value}
    return wanted in names or (
        _is_pattern(dimension, wanted) and any(fnmatchcase(name, wanted) for name in names)
    )


def _in_a_circle(of: Budget, in_force: Iterable[Budget]) -> bool:
    replaces = {b.id: b.replaces for b in in_force}
    at: str | None = of.id
    for _ in replaces:
        at = replaces.get(at or "")
        if at == of.id:
            return True
    return False


def naive(in_force: Collection[Budget], subject: Subject) -> set[str]:
    """The rule as one would tell it: each budget, each choice of a tag, then what is replaced goes."""
    found: list[tuple[Budget, dict[Dimension, str]]] = []
    for of in in_force:
        for tag in subject.tags or (None,):
            known = {**subject._asdict(), "tag": tag}
            provider = subject.provider
            known["model"] = (subject.model or "").removeprefix(f"{provider}/") if provider else subject.model
            if all(known[d] and _is_wanted(d, wanted, known[d], provider) for d, wanted in of.match.items()):
                pairs = {d: known[d] if wanted == ANY else wanted for d, wanted in of.match.items()}
                if (of, pairs) not in found:
                    found.append((of, pairs))
    return {
        account_name(of.id, pairs.items())
        for of, pairs in found
        if not any(
            other.replaces == of.id
            and not _in_a_circle(other, in_force)
            and not ({"tag"} <= by.keys() & pairs.keys() and by["tag"] != pairs["tag"])
            for other, by in found
        )
    }


@settings(max_examples=300)
@given(st.lists(budgets(), max_size=6, unique_by=lambda b: b.id), st.lists(subjects, min_size=1, max_size=5))
def test_the_index_finds_what_a_look_at_every_budget_finds(
    in_force: list[Budget], asked: list[Subject]
) -> None:
    book = BudgetBook(in_force)

    for subject in asked:
        found = [account.name for account in book.accounts_of(subject)]

        assert set(found) == naive(in_force, subject)
        assert len(found) == len(set(found))


class Book(RuleBasedStateMachine):
    """Budgets come, change and go in any order while the same subjects are asked for again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.book = BudgetBook()
        self.in_force: dict[str, Budget] = {}
        self.asked: list[Subject] = []

    @rule(offered=budgets())
    def put(self, offered: Budget) -> None:
        known = self.in_force.get(offered.id)
        expected = known is None or known.revision <= offered.revision
        if expected:
            self.in_force[offered.id] = offered

        assert self.book.put(offered) is expected

    @rule(gone=ids)
    def remove(self, gone: str) -> None:
        assert self.book.remove(gone) == self.in_force.pop(gone, None)

    @rule(subject=subjects)
    def ask(self, subject: Subject) -> None:
        self.asked.append(subject)

    @invariant()
    def every_answer_is_todays(self) -> None:
        assert {b.id: b for b in self.book} == self.in_force
        for subject in self.asked:
            accounts = self.book.accounts_of(subject)

            assert {account.name for account in accounts} == naive(self.in_force.values(), subject)
            assert all(account.budget is self.in_force[account.budget.id] for account in accounts)


Book.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestBook = Book.TestCase


any_pairs = st.dictionaries(st.sampled_from(DIMENSIONS), st.text(min_size=1)).map(lambda pairs: pairs.items())


@given(ids, any_pairs)
def test_an_accounts_name_says_its_budget_and_subject(id_: str, pairs: Iterable[tuple[str, str]]) -> None:
    name = account_name(id_, pairs)

    assert subject_in(name) == dict(pairs)
    assert budget_id_of(name) == id_
    assert (is_account(name), is_account(id_), has_subject(name)) == (True, False, bool(dict(pairs)))
    assert name.count("|") == 1
    assert name.isascii()


@given(any_pairs)
def test_the_order_of_dimensions_makes_no_difference_to_a_name(pairs: Iterable[tuple[str, str]]) -> None:
    assert account_name("b", pairs) == account_name("b", reversed(list(pairs)))


@given(any_pairs, any_pairs)
def test_two_subjects_never_share_a_name(
    one: Iterable[tuple[str, str]], other: Iterable[tuple[str, str]]
) -> None:
    assert (account_name("b", one) == account_name("b", other)) == (dict(one) == dict(other))


@given(subjects, st.dictionaries(st.sampled_from(FEW), values | st.just(ANY), max_size=4))
def test_an_account_has_exactly_the_dimensions_that_its_budget_matches_on(
    subject: Subject, match: dict[str, str]
) -> None:
    of = budget(match=match)
    # A model may be selected by two names, and has one account.
    choices = product(*(_choices(subject, dimension, wanted) for dimension, wanted in of.match.items()))
    fitting = [c for c in choices if all(w in (ANY, v) for w, v in zip(of.match.values(), c, strict=True))]

    accounts = BudgetBook([of]).accounts_of(subject)

    assert len(accounts) == len(fitting)
    assert all({dimension for dimension, _ in account.subject} == set(match) for account in accounts)


def _choices(subject: Subject, dimension: Dimension, wanted: str) -> tuple[str, ...]:
    values = subject.values(dimension)
    return values[:1] if dimension == "model" and wanted == ANY else values


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_a_glob_fits_what_the_shell_would_take_for_it(glob: str, value: str) -> None:
    assume("*" in glob)
    assert fits(glob, value) == fnmatchcase(value, glob)
