"""The diagram of the states of a payment, and where the code of each of its transitions stands."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

# Half the size of a state, and the room around it, in units of the drawing.
_HALF_WIDTH, _HALF_HEIGHT = 56.0, 19.0
_ARROW_GAP = 3.0

Layout = Literal["wide", "tall"]
# How far the label of a bent arrow stands from it: as high as a line of text, as wide as half a word.
_LABEL_APART: dict[Layout, float] = {"wide": 10.0, "tall": 30.0}


@dataclass(frozen=True)
class _Arrow:
    """A transition between two states. A bend moves the middle of the arrow aside."""

    start: str
    end: str
    transitions: tuple[str, ...]
    bend: float = 0.0


@dataclass(frozen=True)
class Machine:
    """The states of a type of payment in a grid of columns and rows, and the transitions between them.

    A test compares them with the transition table of `actors/state_machine.py`.
    """

    states: Mapping[str, tuple[float, float]]
    arrows: tuple[_Arrow, ...]


MACHINES = {
    "payment": Machine(
        {
            "pending": (0, 0),
            "processing": (1, 0),
            "completed": (2, 0),
            "cancelled": (0, 1),
            "failed": (2, 1),
        },
        (
            _Arrow("pending", "processing", ("begin",)),
            _Arrow("processing", "completed", ("complete",)),
            _Arrow("processing", "failed", ("fail",)),
            _Arrow("pending", "cancelled", ("cancel",)),
        ),
    ),
    "initiate": Machine(
        {
            "pending": (0, 0),
            "initiated": (1, 0),
            "processing": (2, 0),
            "completed": (3, 0),
            "cancelled": (0.5, 1),
            "failed": (1.5, 1),
        },
        (
            _Arrow("pending", "initiated", ("begin",)),
            _Arrow("pending", "cancelled", ("cancel",)),
            _Arrow("initiated", "cancelled", ("cancel",)),
            _Arrow("initiated", "failed", ("fail", "expire")),
            _Arrow("initiated", "processing", ("engage",), 16),
            _Arrow("processing", "initiated", ("reopen",), 16),
            _Arrow("processing", "completed", ("complete",)),
        ),
    ),
}


@dataclass(frozen=True)
class State:
    """A state as it is drawn, by its centre."""

    name: str
    x: float
    y: float
    is_current: bool
    is_passed: bool


@dataclass(frozen=True)
class Edge:
    """An arrow as it is drawn: its path, its label, and how often the payment has taken it."""

    path: str
    label: str
    x: float
    y: float
    taken: int
    is_latest: bool


@dataclass(frozen=True)
class Diagram:
    """A drawing, and the same in words."""

    layout: Layout
    width: float
    height: float
    states: list[State]
    edges: list[Edge]
    text: str


def draw(payment: Mapping[str, Any], transitions: Iterable[Mapping[str, Any]], layout: Layout) -> Diagram:
    """Draws the states of a payment, with the path that its transitions have taken, oldest first."""
    machine = MACHINES[payment["type"]]
    path = [(each["from"], each["to"], each["transition"]) for each in transitions]
    taken = Counter(path)
    passed = {state for start, end, _ in path for state in (start, end)} | {payment["status"]}
    places = {name: _place(cell, layout) for name, cell in machine.states.items()}
    states = [State(name, x, y, name == payment["status"], name in passed) for name, (x, y) in places.items()]
    edges = []
    for arrow in machine.arrows:
        steps = [(arrow.start, arrow.end, transition) for transition in arrow.transitions]
        count = sum(taken[step] for step in steps)
        line, x, y = _line(places[arrow.start], places[arrow.end], arrow.bend, layout)
        label = ", ".join(arrow.transitions) + (f" {count} times" if count > 1 else "")
        edges.append(Edge(line, label, x, y, count, bool(path) and path[-1] in steps))
    # The arrows that the payment has taken are drawn last, above the others.
    edges.sort(key=lambda edge: (edge.taken > 0, edge.is_latest))
    width = max(x for x, _ in places.values()) + _HALF_WIDTH + 12
    height = max(y for _, y in places.values()) + _HALF_HEIGHT + 12
    return Diagram(layout, width, height, states, edges, _words(payment, path))


def _words(payment: Mapping[str, Any], path: list[tuple[str | None, str, str]]) -> str:
    kind = "request" if payment["type"] == "initiate" else "payment"
    steps = [f"{transition}, to {end}" for _, end, transition in path]
    taken = f" The path taken: {'; '.join(steps)}." if steps else ""
    return f"The {kind} is {payment['status']}.{taken}"


def _place(cell: tuple[float, float], layout: Layout) -> tuple[float, float]:
    """Returns the centre of a state. The tall layout, for phones, has rows for columns."""
    column, row = cell
    if layout == "wide":
        return 12 + _HALF_WIDTH + column * 208, 24 + _HALF_HEIGHT + row * 112
    return 12 + _HALF_WIDTH + row * 206, 12 + _HALF_HEIGHT + column * 100


def _line(
    start: tuple[float, float], end: tuple[float, float], bend: float, layout: Layout
) -> tuple[str, float, float]:
    """Returns the path between the borders of two states, and where its label stands."""
    (x1, y1), (x2, y2) = start, end
    length = math.hypot(x2 - x1, y2 - y1)
    # A bend is to the left of the direction of travel.
    aside = (y2 - y1) / length, -(x2 - x1) / length
    middle = (x1 + x2) / 2 + aside[0] * bend * 2, (y1 + y2) / 2 + aside[1] * bend * 2
    (begin_x, begin_y), (end_x, end_y) = _border(start, middle), _border(end, middle)
    # Outside of a bend: two arrows between the same states have a label each.
    apart = math.copysign(_LABEL_APART[layout], bend) if bend else 0.0
    label = (
        (begin_x + end_x) / 4 + middle[0] / 2 + aside[0] * apart,
        (begin_y + end_y) / 4 + middle[1] / 2 + aside[1] * apart,
    )
    path = f"M{begin_x:.1f} {begin_y:.1f}Q{middle[0]:.1f} {middle[1]:.1f} {end_x:.1f} {end_y:.1f}"
    return path, round(label[0], 1), round(label[1], 1)


def _border(centre: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Returns where a line from the centre leaves the state, with a gap for the head of the arrow."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    scale = min(
        (_HALF_WIDTH + _ARROW_GAP) / abs(dx) if dx else math.inf,
        (_HALF_HEIGHT + _ARROW_GAP) / abs(dy) if dy else math.inf,
    )
    return centre[0] + dx * scale, centre[1] + dy * scale


# The function that makes each transition. A test compares the functions with the source, and the transitions
# with the table in `actors/state_machine.py`.
_JOBS, _ENDINGS = "actors/payment_jobs.py: ", "actors/payment_endings.py: "
# The transition of a payment also makes that of its request.
_REQUEST_FOLLOWS = "actors/transitions.py: _apply_to_requests"

PLACES: dict[tuple[str, str], str] = {
    ("payment", "create"): _JOBS + "create_payment",
    ("payment", "begin"): _JOBS + "begin",
    ("payment", "complete"): _JOBS + "settle",
    ("payment", "fail"): _JOBS + "settle",
    ("payment", "cancel"): _ENDINGS + "cancel",
    ("initiate", "create"): _JOBS + "create_request",
    ("initiate", "begin"): _JOBS + "begin",
    ("initiate", "engage"): _JOBS + "pay_request",
    ("initiate", "reopen"): _REQUEST_FOLLOWS,
    ("initiate", "complete"): _REQUEST_FOLLOWS,
    ("initiate", "fail"): _ENDINGS + "fail",
    ("initiate", "expire"): _ENDINGS + "expire_requests",
    ("initiate", "cancel"): _ENDINGS + "cancel",
}
# Where more than one function makes a transition, its reason tells which.
PLACES_BY_REASON: dict[tuple[str, str, str], str] = {
    ("payment", "fail", "provider_unavailable"): _JOBS + "resolve",
    ("initiate", "cancel", "its vendor takes no payments any more"): _ENDINGS + "withdraw_requests",
}


def code_of(payment: Mapping[str, Any], transition: Mapping[str, Any]) -> str:
    """Returns the place of the code that made a transition of a payment, both as the API shows them."""
    kind, name = payment["type"], transition["transition"]
    if kind == "payment" and name == "create" and payment["requestId"]:
        return _JOBS + "pay_request"
    if kind == "payment" and name == "fail" and (payment["failure"] or {}).get("code") == "failed_by_admin":
        return _ENDINGS + "fail"
    return PLACES_BY_REASON.get((kind, name, transition["reason"] or "")) or PLACES[kind, name]
