"""From a string to its leftmost derivation, for any context-free grammar: left-recursive, ambiguous or neither.

A bottom-up parser over characters. Its states are those of LR(0), made when first met; a reduction goes on only where
the next two characters may follow (SLR(2)), so that most strings of most grammars, and all SMILES, leave one choice
at every character: one stack then does. Where there are more, all are followed at once on a stack that is a graph, in
which every way to read a part as a left side is kept once; of an ambiguous string this gives one derivation, always
the same.

One stack is fast because strings of a grammar lead to the same few stacks again and again: each is kept once, with what
a character and the next two did there. Most characters are then one look into a dictionary, whatever the grammar.

Each part on the stack carries its own leftmost derivation, as bytes: that of a production is its index, then its
parts'. So nothing recurses, however deep the string.

Reference: M. Tomita, "An Efficient Augmented-Context-Free Parsing Algorithm", Computational Linguistics 13, 1987.
"""

from functools import lru_cache

from raectl.grammars.grammar import Grammar
from raectl.grammars.lookahead import Lookahead, Symbols

LONGEST = 4096  # characters of a string, and rules of a derivation
_STEPS = 2_000_000  # edges that a string's graph may be searched along, a second's work
_BYTES = 64  # of a derivation on an edge that count as a step, so that memory is bounded too
_KEPT = 2**16  # steps that are remembered; then all are forgotten
_STATES = 2**12  # that are kept for the next string; some grammars have exponentially many
_END = "\0"
_SHIFT, _ACCEPT, _ERROR, _MANY = -1, -2, -3, -4  # beside rules, which are reduced
_START = -1  # the rule that has the start on its right

Item = tuple[int, int]  # rule, and how many of its symbols have been read


class ParseError(ValueError):
    """A string that the grammar does not derive; its text says why."""


class _State:
    """An LR(0) state: its items, and what is known of its actions so far."""

    __slots__ = ("actions", "ahead", "items", "moves")

    def __init__(self, items: tuple[Item, ...]) -> None:
        self.items = items
        self.moves: dict[int | str, _State] = {}
        self.ahead: dict[int, set[str]] | None = None
        self.actions: dict[str, tuple[int, tuple[int, ...]]] = {}  # two characters => what to do, and all of them


class _Node:
    """A state on the stack that is a graph; below it others, with the derivation of what lies between."""

    __slots__ = ("below", "state")

    def __init__(self, state: _State) -> None:
        self.state = state
        self.below: dict[_Node, bytes] = {}


Merge = tuple[int, bytes, bytes]  # in the place of the last so many parts: they, with rules before and after them


Step = tuple["_Stack", tuple[Merge, ...], int]  # where it leads, the merges of parts on the way, and how many rules


class _Stack:
    """A state on the one stack, those below it, and where its steps lead: by the character read and the two after it,
    the stack, the merges and the rules until the next character is to be read."""

    __slots__ = ("above", "below", "state", "steps")

    def __init__(self, state: _State, below: "_Stack | None" = None) -> None:
        self.state = state
        self.below = below
        self.above: dict[_State, _Stack] = {}
        self.steps: dict[str, Step] = {}

    def push(self, state: _State) -> "_Stack":
        """The stack with one more state on it, always the same object."""
        return self.above.setdefault(state, _Stack(state, self))


class Parser:
    """The parser of a grammar.

    Example:
        >>> from raectl import grammars
        >>> list(Parser(grammars.read("S -> S '+' T | T\\nT -> 'x'")).derivation("x+x"))
        [0, 1, 2, 2]
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self._right: dict[int, Symbols] = {_START: (0,)}
        for rule, production in enumerate(grammar.productions):
            if grammar.is_applied(production):
                parts = (s.text if s.is_text else (grammar.lefts.index(s.text),) for s in production.right)
                self._right[rule] = tuple(symbol for part in parts for symbol in part)
        left = {rule: grammar.left[rule] for rule in self._right if rule != _START}
        self._lookahead = Lookahead(self._right, left | {_START: len(grammar.lefts)}, 2 * _END)
        self._kept = 0
        self._forget()
        # rule => its number of symbols, its left side, its derivation without its parts
        self._reductions = {r: (len(self._right[r]), grammar.left[r], bytes([r])) for r in self._right if r != _START}

    def derivation(self, text: str) -> bytes:
        """The rules of the leftmost derivation of a string.

        Raises:
            ParseError: there is none, or it is too long, or takes too long to find.
        """
        if len(text) > LONGEST:
            raise ParseError(f"longer than {LONGEST:,} characters")
        if not self.grammar.alphabet.issuperset(text):
            at = next(at for at, character in enumerate(text) if character not in self.grammar.alphabet)
            raise ParseError(f"the grammar has no {text[at]!r}, character {at + 1}")
        if len(self._states) > _STATES:
            self._forget()
        rules = self._by_one_stack(text)
        if rules is None:
            rules = self._by_a_graph(text)
        if len(rules) > LONGEST:
            raise ParseError(f"its derivation has more than {LONGEST:,} rules")
        return rules

    # -- one stack -------------------------------------------------------------------------------------------------

    def _by_one_stack(self, text: str) -> bytes | None:
        """The derivation, or None where there is more than one choice, or no end to reducing."""
        around = _END + text + 2 * _END
        stack, parts, reduced = self._bottom, [b""], 0
        for at in range(len(text) + 1):
            key = around[at : at + 3]
            step = stack.steps.get(key) or self._step(stack, key, text, at)
            if step is None:
                return None
            stack, merges, rules = step
            reduced += rules
            if reduced > LONGEST:
                return None
            for count, before, after in merges:
                if count == 1:
                    parts[-1] = before + parts[-1] + after
                elif count:
                    parts[-count:] = [before + b"".join(parts[-count:]) + after]
                else:
                    parts.append(before + after)
        return parts[-1]

    def _step(self, stack: _Stack, key: str, text: str, at: int) -> Step | None:
        """Read a character, unless it is the start, and reduce until the next is to be read; None: many ways to go, or
        more rules than a derivation may have, as where what is nothing is put on the stack again and again."""
        start, pair, reduced = stack, key[1:], 0
        if key[0] != _END:
            stack = stack.push(stack.state.moves.get(key[0]) or self._move(stack.state, key[0]))
        merges: list[Merge] = []
        while (action := (stack.state.actions.get(pair) or self._actions(stack.state, pair))[0]) >= 0:
            count, left, rules = self._reductions[action]
            for _ in range(count):
                assert stack.below is not None
                stack = stack.below
            stack = stack.push(stack.state.moves.get(left) or self._move(stack.state, left))
            _merge(merges, len(self.grammar.pushed[action]), rules)
            reduced += 1
            if reduced > LONGEST:
                return None
        if action == _MANY:
            return None
        if action == _ERROR:
            raise _stuck(text, at)
        self._kept += 1
        if self._kept > _KEPT:
            self._bottom, self._kept = _Stack(self._begin), 0
        start.steps[key] = stack, tuple(merges), reduced
        return start.steps[key]

    # -- many at once ----------------------------------------------------------------------------------------------

    def _by_a_graph(self, text: str) -> bytes:
        ahead = text + 2 * _END
        root = _Node(self._begin)
        level = {self._begin: root}
        steps = _STEPS
        for at in range(len(text) + 1):
            pair = ahead[at : at + 2]
            steps = self._reduce_all(level, pair, steps)
            if at == len(text):
                break
            following: dict[_State, _Node] = {}
            for state, node in level.items():
                if _SHIFT in self._all_actions(state, pair):
                    target = state.moves.get(pair[0]) or self._move(state, pair[0])
                    following.setdefault(target, _Node(target)).below[node] = b""
            if not following:
                raise _stuck(text, at)
            level = following
        for state, node in level.items():
            if _ACCEPT in self._all_actions(state, 2 * _END) and root in node.below:
                return node.below[root]
        raise _stuck(text, len(text))

    def _reduce_all(self, level: dict[_State, _Node], pair: str, steps: int) -> int:
        """Add to a level whatever reductions lead to; the steps that are left."""
        waiting: list[tuple[_Node, _Node | None]] = [(node, None) for node in level.values()]  # by one edge, or by all
        while waiting:
            node, first = waiting.pop()
            for rule in self._all_actions(node.state, pair):
                if rule < 0:
                    continue
                count, left, rules = self._reductions[rule]
                edges = {} if first is None or not count else {first: node.below[first]}
                ways, steps = _ways(node, edges, count, steps)
                for base, parts in ways.items():
                    target = base.state.moves.get(left) or self._move(base.state, left)
                    above = level.setdefault(target, _Node(target))
                    if base not in above.below:
                        above.below[base] = (rules + parts)[: LONGEST + 1]
                        waiting.append((above, base))
                        # What was derived from nothing lies on nodes of this level, and may reach through the edge.
                        here = set(level.values())
                        others = (o for o in level.values() if not o.below.keys().isdisjoint(here))
                        waiting += [(other, None) for other in others]
                        steps -= len(here) + len(parts) // _BYTES
        return steps

    # -- states and actions ----------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._states: dict[frozenset[Item], _State] = {}
        self._begin = self._state(frozenset({(_START, 0)}))
        self._bottom = _Stack(self._begin)

    def _state(self, kernel: frozenset[Item]) -> _State:
        if kernel not in self._states:
            items = dict.fromkeys(sorted(kernel))
            waiting = [*items]
            while waiting:
                rule, read = waiting.pop()
                right = self._right[rule]
                if read < len(right) and isinstance(right[read], int):
                    new = [(r, 0) for r in self._right if r != _START and self.grammar.left[r] == right[read]]
                    waiting += [item for item in new if item not in items]
                    items |= dict.fromkeys(new)
            self._states[kernel] = _State(tuple(items))
        return self._states[kernel]

    def _move(self, state: _State, symbol: int | str) -> _State:
        after = ((rule, read + 1) for rule, read in state.items if self._right[rule][read : read + 1] == (symbol,))
        state.moves[symbol] = self._state(frozenset(after))
        return state.moves[symbol]

    def _all_actions(self, state: _State, pair: str) -> tuple[int, ...]:
        return (state.actions.get(pair) or self._actions(state, pair))[1]

    def _actions(self, state: _State, pair: str) -> tuple[int, tuple[int, ...]]:
        if state.ahead is None:
            state.ahead = self._ahead(state)
        actions = tuple(sorted(action for action, pairs in state.ahead.items() if pair in pairs))
        only = actions[0] if len(actions) == 1 else _MANY if actions else _ERROR
        state.actions[pair] = only, actions
        return state.actions[pair]

    def _ahead(self, state: _State) -> dict[int, set[str]]:
        """What may be done in a state, and before which two characters."""
        found: dict[int, set[str]] = {}
        for rule, read in state.items:
            pairs = self._lookahead.of(rule, read)
            if read == len(self._right[rule]):
                found[_ACCEPT if rule == _START else rule] = pairs
            # Asked of what is half read, not of the items that follow from it: it knows better what comes after.
            elif read or rule == _START:
                found[_SHIFT] = found.get(_SHIFT, set()) | pairs
        readable = {self._right[rule][read] for rule, read in state.items if read < len(self._right[rule])}
        if _SHIFT in found:
            found[_SHIFT] = {pair for pair in found[_SHIFT] if pair[0] in readable}
        return found


def _ways(node: _Node, edges: dict[_Node, bytes], count: int, steps: int) -> tuple[dict[_Node, bytes], int]:
    """The nodes so many edges below one, each with what lies between, read one way; the steps that are left.

    Arguments:
        edges: the first ones to take; all if empty.

    Raises:
        ParseError: no steps are left.
    """
    ways = {node: b""}
    for _ in range(count):
        below: dict[_Node, bytes] = {}
        for at, parts in ways.items():
            for to, part in (edges or at.below).items():
                if to not in below:
                    # A rule more than are allowed is enough; a few rules may make more of nothing than memory holds.
                    below[to] = (part + parts)[: LONGEST + 1]
                steps -= 1
        ways, edges = below, {}
    if steps < 0:
        raise ParseError("too ambiguous: there are too many ways to read it")
    return ways, steps


def _merge(merges: list[Merge], count: int, before: bytes, after: bytes = b"") -> None:
    """Add a merge to others: as one of them where it takes what the last one made."""
    if count and merges:
        last, first, rest = merges[-1]
        if count == 1:
            merges[-1] = last, before + first, rest + after
            return
        if last == 0:
            merges.pop()
            _merge(merges, count - 1, before, first + rest + after)
            return
    merges.append((count, before, after))


def _stuck(text: str, at: int) -> ParseError:
    end = "its end" if at >= len(text) else f"character {at + 1}, {text[at]!r}"
    return ParseError(f"the grammar does not derive it, seen at {end}")


@lru_cache(maxsize=4)
def parser_of(grammar: Grammar) -> Parser:
    """The parser of a grammar, made once."""
    return Parser(grammar)
