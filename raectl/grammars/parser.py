"""Parse a string to its leftmost derivation, for any context-free grammar, also left-recursive or ambiguous ones.

A generalized LR parser over characters: LR(0) states, made when first needed, with two characters of lookahead
(SLR(2)). Most strings of most grammars, and all SMILES, leave one action at every character, and one stack is enough.
Otherwise all actions are followed on a graph-structured stack, which keeps every reading of a substring as a
nonterminal once; of an ambiguous string this gives one derivation, always the same.

Strings of a grammar lead to the same few stacks again and again. Each stack is kept, with the effect there of each
character and the two after it, so that most characters take one dictionary lookup.

Each part on the stack carries its leftmost derivation, as bytes: the index of a production, then its parts'. So nothing
recurses, however deeply the string is nested. A rule here is the index of a production.

Reference: M. Tomita, "An Efficient Augmented-Context-Free Parsing Algorithm", Computational Linguistics 13, 1987.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from raectl.grammars.grammar import Grammar
from raectl.grammars.lookahead import Symbols, lookahead

LONGEST = 4096  # characters of a string, and productions of a derivation
_STEPS = 2_000_000  # edges of a string's graph that may be followed: about a second
_BYTES = 64  # bytes of a derivation on an edge that count as a step, to bound memory too
_KEPT = 2**16  # steps that are cached; then the cache is cleared
_STATES = 2**12  # LR states that are kept for the next string; some grammars have exponentially many
_END = "\0"
_SHIFT, _ACCEPT, _ERROR, _MANY = -1, -2, -3, -4  # actions; a rule from 0 on is to reduce by it
_START = -1  # the rule whose right side is the start symbol

Item = tuple[int, int]  # rule, number of its symbols that have been read


class ParseError(ValueError):
    """The grammar does not derive a string; the text says why."""


@dataclass(slots=True, eq=False)
class _State:
    """An LR(0) state: its items, and its transitions and actions computed so far."""

    items: tuple[Item, ...]
    moves: dict[int | str, "_State"] = field(default_factory=dict)
    ahead: dict[int, set[str]] | None = None
    # Two characters => action or _MANY, all actions.
    actions: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Node:
    """A node of the graph-structured stack: a state, and the nodes below it, each with the derivation in between."""

    state: _State
    below: dict["_Node", bytes] = field(default_factory=dict)


Merge = tuple[int, bytes, bytes]  # join the last so many parts to one, with rules before and after them
Step = tuple["_Stack", tuple[Merge, ...], int]  # the stack that it leads to, the merges, number of reductions


@dataclass(slots=True, eq=False)
class _Stack:
    """A state on top of the stack `below`, with the cached steps from it by the character read and the two after it."""

    state: _State
    below: "_Stack | None" = None
    above: dict[_State, "_Stack"] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)

    def push(self, state: _State) -> "_Stack":
        """The stack with one more state on top, always the same object."""
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
        self._lookahead = lookahead(self._right, left | {_START: len(grammar.lefts)}, 2 * _END)
        self._kept = 0
        self._forget()
        # rule => its number of symbols, its left side, its derivation without its parts
        self._reductions = {r: (len(self._right[r]), grammar.left[r], bytes([r])) for r in self._right if r != _START}

    def derivation(self, text: str) -> bytes:
        """The productions of the leftmost derivation of a string.

        Raises:
            ParseError: there is none, it is too long, or it takes too long to find.
        """
        if len(text) > LONGEST:
            raise ParseError(f"longer than {LONGEST:,} characters")
        if not self.grammar.alphabet.issuperset(text):
            at = next(at for at, character in enumerate(text) if character not in self.grammar.alphabet)
            raise ParseError(f"the grammar has no {text[at]!r}, character {at + 1}")
        if len(self._states) > _STATES:
            self._forget()
        derivation = self._by_one_stack(text)
        if derivation is None:
            derivation = self._by_a_graph(text)
        if len(derivation) > LONGEST:
            raise ParseError(f"its derivation has more than {LONGEST:,} productions")
        return derivation

    # -- one stack -------------------------------------------------------------------------------------------------

    def _by_one_stack(self, text: str) -> bytes | None:
        """The derivation by an LR parser with a single stack, which is fast but cannot handle ambiguity.

        None if a character allows more than one action, or if reductions may not end: the general parser must decide.
        """
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
        """Shift key[0], unless it is before the first character, and reduce until the next shift.

        None if there are several actions, or too many reductions, such as endless ones by empty productions.
        """
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

    # -- graph-structured stack ------------------------------------------------------------------------------------

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
        """Add the results of all reductions to a level; returns the number of steps left."""
        # Nodes, each with the edge below it to start with, or None for all.
        waiting: list[tuple[_Node, _Node | None]] = [(node, None) for node in level.values()]
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
                        # Reductions of nodes above others of this level, by empty productions, may use the new edge.
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
        """The possible actions in a state, and the pairs of next characters for which each is possible."""
        ahead: dict[int, set[str]] = {}
        for rule, read in state.items:
            pairs = self._lookahead[rule][read]
            if read == len(self._right[rule]):
                ahead[_ACCEPT if rule == _START else rule] = pairs
            # Kernel items suffice, and their lookahead is more exact than that of the closure.
            elif read or rule == _START:
                ahead[_SHIFT] = ahead.get(_SHIFT, set()) | pairs
        readable = {self._right[rule][read] for rule, read in state.items if read < len(self._right[rule])}
        if _SHIFT in ahead:
            ahead[_SHIFT] = {pair for pair in ahead[_SHIFT] if pair[0] in readable}
        return ahead


def _ways(node: _Node, edges: dict[_Node, bytes], count: int, steps: int) -> tuple[dict[_Node, bytes], int]:
    """The nodes `count` edges below, the first one of `edges` if any, each with one derivation; and the steps left."""
    ways = {node: b""}
    for _ in range(count):
        below: dict[_Node, bytes] = {}
        for at, parts in ways.items():
            for to, part in (edges or at.below).items():
                if to not in below:
                    # Truncated just above the limit: empty productions can give derivations larger than the memory.
                    below[to] = (part + parts)[: LONGEST + 1]
                steps -= 1
        ways, edges = below, {}
    if steps < 0:
        raise ParseError("too ambiguous: there are too many ways to read it")
    return ways, steps


def _merge(merges: list[Merge], count: int, before: bytes, after: bytes = b"") -> None:
    """Append a merge, combined with the last one if it contains its result."""
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
    return ParseError(f"the grammar does not derive it: parsing fails at {end}")


@lru_cache(maxsize=4)
def parser_of(grammar: Grammar) -> Parser:
    """The parser of a grammar, cached."""
    return Parser(grammar)
