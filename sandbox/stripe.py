"""A stand-in for Stripe's billing: customers, subscriptions, invoices and their payments, charges, refunds, prices, products,
coupons, and the events that tell of changes.

Lives here: what Stripe answers, its documented limits, and the faults that only it knows. Must not live here: what stand-ins
share (`standin.py`), what Tenure reads.

What it holds to: keys as bearer tokens, restricted ones with read permissions by resource; lists newest first, at most 100
objects, with `starting_after`, `ending_before` (the page just before) and `created[gte|gt|lte|lt]`; subscriptions that are
canceled only with `status=all`; what is in another object as its id unless it is expanded, for which the key needs the right
to read it; discounts as ids, and no tiers, `currency_options` or `applies_to`, unless they are expanded, at most four levels
deep; at most ten items in a subscription, the rest in a list of their own; coupons in discounts by the version of the API;
payments of invoices by payment intent; events of at most 20 `types`; 100 requests a second. Parameters and expansions that Stripe
does not know are refused, and so are, from tests and the sandbox, objects without what Stripe's always have. Beyond the faults of
all stand-ins it knows `circle` (a list that has more, and begins anew) and `echo` (a 400 that repeats the key).
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.warehouse import literal, rows, scratch
from sandbox.serve import serving
from sandbox.standin import Body, StandIn, Store, Window, fault_of

KEY = "rk_test_sandbox_0000"
MOST_ROWS = 100
MOST_TYPES = 20
KINDS = (
    *("customers", "subscriptions", "invoices", "invoice_payments", "charges", "refunds"),
    *("products", "prices", "coupons", "events"),
)
WORDS = {
    "customers": "customer",
    "subscriptions": "customer.subscription",
    "invoices": "invoice",
    "charges": "charge",
    "refunds": "refund",
}
RIGHTS = {"refunds": "charges", "invoice_payments": "invoices", "subscription_items": "subscriptions"}
"""Kinds that are read by the right to read another one."""
MOST_EMBEDDED = 10
"""Objects of a list inside an object."""
_LIST = ("limit", "starting_after", "ending_before", "expand")
PARAMETERS = {
    "customers": ("created", "email"),
    "subscriptions": ("created", "customer", "price", "status"),
    "subscription_items": ("subscription",),
    "invoices": ("created", "customer", "status", "subscription", "due_date"),
    "invoice_payments": ("created", "invoice", "payment", "status"),
    "charges": ("created", "customer", "payment_intent"),
    "refunds": ("created", "charge", "payment_intent"),
    "products": ("active", "created", "ids"),
    "prices": ("active", "created", "currency", "product"),
    "coupons": ("created",),
    "events": ("created", "type", "types", "delivery_success"),
}
"""What a list takes beside what all take."""
EXPANSIONS = {
    "customers": r"discount\.source\.coupon",
    "subscriptions": r"customer|discounts(\.source\.coupon)?|items\.data\.(discounts(\.source\.coupon)?|price\.(tiers|currency_options))",
    "subscription_items": r"discounts(\.source\.coupon)?|price\.(tiers|currency_options)",
    "refunds": "charge",
    "invoice_payments": "invoice",
    "prices": r"tiers|currency_options(\.[a-z]{3}\.tiers)?",
    "coupons": "applies_to|currency_options",
}
"""What can be shown whole, of what is read here."""
_PRICED = ("id", "product", "currency", "billing_scheme", "recurring")
ALWAYS = {
    "subscriptions": (
        *("customer", "status", "currency", "items", "discounts", "start_date", "trial_start", "trial_end"),
        *("ended_at", "metadata"),
    ),
    "invoices": ("customer", "status", "currency", "total", "attempt_count", "status_transitions"),
    "prices": _PRICED,
    "coupons": ("duration", "percent_off", "amount_off", "currency"),
}
"""What an object always has, though it may be null."""
EXPANDED = {"customer": "customers", "charge": "charges", "invoice": "invoices"}
"""Fields that hold the id of another object, and its kind."""
CLOVER = "2025-09-30"
"""The version of the API since which a discount's coupon is an id in its `source`."""
_DAY = 86_400


class StripeStandIn(StandIn):
    """One Stripe account. `requests` in any second are allowed."""

    def __init__(self, *, store: Store | None = None, requests: int = 100) -> None:
        routes = [
            route
            for kind in KINDS
            for route in (
                Route(f"/v1/{kind}", self._guarded(kind, self._list)),
                Route(f"/v1/{kind}/{{key}}", self._guarded(kind, self._one)),
            )
        ]
        routes.append(Route("/v1/subscription_items", self._guarded("subscription_items", self._items)))
        super().__init__(routes, store=store)
        self.window = Window(requests, 1.0)
        self.keys: dict[str, tuple[str, ...]] = {KEY: KINDS}
        self.page_rows = MOST_ROWS
        self._order: dict[str, list[tuple[int, int, str]]] = {kind: [] for kind in KINDS}
        self._place: dict[tuple[str, str], tuple[int, int, str]] = {}
        self._made = 0
        self._coupons: dict[str, Body] = {}

    # --- what tests and the sandbox say ---------------------------------------------------------------------------

    def put(self, kind: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Objects with an `id` and `created`, without an event. A coupon may be written in the discount that uses it."""
        found = {str(record["id"]): self._kept(kind, {"object": kind[:-1], **record}) for record in records}
        self.store.put(kind, found)
        if kind == "coupons":
            # A discount goes on showing its coupon when that is deleted.
            self._coupons |= {key: record for key, record in found.items() if not record.get("deleted")}
        for key, record in found.items():
            if (kind, key) not in self._place:
                self._made += 1
                place = (int(record["created"]), self._made, key)
                self._place[kind, key] = place
                insort(self._order[kind], place)

    def _kept(self, kind: str, record: Body) -> Body:
        """An object as it is stored: coupons apart. Raises `ValueError` for one that Stripe could not have."""
        if record.get("deleted"):
            return record
        listed = record.get("items", {}).get("data", []) if kind == "subscriptions" else []
        missing = [name for name in ALWAYS.get(kind, ()) if name not in record]
        missing += [
            f"items.data.{name}" for item in listed for name in ("id", "price", "discounts") if name not in item
        ]
        missing += [f"price.{name}" for item in listed for name in _PRICED if name not in item.get("price", {})]
        if missing:
            raise ValueError(f"{kind} {record['id']}: Stripe's always have {', '.join(dict.fromkeys(missing))}")
        if kind in ("subscriptions", "customers"):
            record = {**record, **self._without_coupons(record)}
        if listed:
            items = [{**item, **self._without_coupons(item)} for item in listed]
            record = {**record, "items": {**record["items"], "data": items}}
        return record

    def _without_coupons(self, owner: Mapping[str, Any]) -> Body:
        several, one = owner.get("discounts"), owner.get("discount")
        found: Body = {"discounts": [self._without_coupon(discount) for discount in several]} if several else {}
        return {**found, "discount": self._without_coupon(one)} if one else found

    def _without_coupon(self, discount: Mapping[str, Any]) -> Body:
        coupon = discount["coupon"]
        if isinstance(coupon, Mapping):
            self.put("coupons", [{"created": 0, "percent_off": None, "amount_off": None, "currency": None, **coupon}])
            coupon = coupon["id"]
        return {"object": "discount", "start": 0, "end": None, **discount, "coupon": coupon}

    def change(self, kind: str, record: Mapping[str, Any], *, at: int, word: str | None = None) -> None:
        """Make or change an object at a moment, with the event that tells so."""
        verb = word or ("updated" if self.store.get(kind, str(record["id"])) else "created")
        self.put(kind, [record])
        self.tell(f"{WORDS[kind]}.{verb}", record, at=at)

    def delete(self, kind: str, key: str, *, at: int) -> None:
        """Take an object out of its list; asked for by its id, it is one that is deleted."""
        record = {"id": key, "object": kind[:-1], "deleted": True, "created": self._place[kind, key][0]}
        self.store.put(kind, {key: record})
        self.tell(f"{WORDS[kind]}.deleted", record, at=at)

    def discount(self, customer: str, discount: Mapping[str, Any] | None, *, at: int) -> None:
        """Give a customer as a whole a discount, another one, or none any more."""
        record = self.store.all("customers")[customer]
        before = record.get("discount")
        told = {"object": "discount", "customer": customer, "subscription": None, **(discount or before or {})}
        self.change("customers", {**record, "discount": None if discount is None else told}, at=at)
        word = "deleted" if discount is None else "updated" if before else "created"
        self.tell(f"customer.discount.{word}", told, at=at)

    def remove(self, kind: str, key: str) -> None:
        """Take an object away without a trace, such as the payment of an invoice that was detached."""
        self.put(kind, [{"id": key, "created": self._place[kind, key][0], "deleted": True}])

    def tell(self, word: str, record: Mapping[str, Any], *, at: int) -> None:
        """An event about an object."""
        event = {"id": f"evt_{self._made + 1:012d}", "type": word, "created": at, "data": {"object": dict(record)}}
        self.put("events", [event])

    def state(self) -> Body:
        return {kind: len(self.store.all(kind)) for kind in KINDS}

    # --- answers --------------------------------------------------------------------------------------------------

    def refusal(self, status: int, detail: Body) -> Response:
        kind = "invalid_request_error" if status < 500 else "api_error"
        body = {"error": {"type": kind, "message": detail.get("message", "told to fail")}}
        return JSONResponse(detail.get("body", body), status, headers=detail.get("headers"))

    def _guarded(self, kind: str, handler: Any) -> Any:
        async def guarded(request: Request) -> Response:
            key = request.headers.get("authorization", "").removeprefix("Bearer ")
            if key not in self.keys:
                return self.refusal(401, {"message": f"Invalid API Key provided: {key[:3]}****"})
            if fault_of(request, "echo") is not None:
                return self.refusal(400, {"message": f"refused, and your key is {key}"})
            if not self.window.allows(key):
                return self.refusal(429, {"message": "Too many requests", "headers": {"Retry-After": "1"}})
            unknown = self._unknown(request, kind)
            if unknown is not None:
                return self.refusal(400, {"message": unknown})
            wanted = [kind, *_kinds_expanded(request)]
            refused = [name for name in (RIGHTS.get(one, one) for one in wanted) if name not in self.keys[key]]
            if refused:
                needed = f"rak_{refused[0][:-1]}_read"
                message = (
                    "The provided key does not have the required permissions for this endpoint."
                    f" Having the '{needed}' permission would allow this request to continue."
                )
                return self.refusal(403, {"message": message})
            response: Response = await handler(request, kind)
            return response

        return guarded

    async def _one(self, request: Request, kind: str) -> Response:
        record = self.store.get(kind, request.path_params["key"])
        if record is None or (record.get("deleted") and kind != "customers"):
            return self.refusal(404, {"message": f"No such {kind[:-1]}: '{request.path_params['key']}'"})
        return JSONResponse(self._shown(kind, record, _View(request, "")))

    async def _items(self, request: Request, kind: str) -> Response:
        """The items of a subscription, of which the subscription itself shows the first ten."""
        asked = request.query_params
        owner = self.store.get("subscriptions", asked.get("subscription", ""))
        if owner is None:
            return self.refusal(400, {"message": "Missing required param: subscription."})
        items = owner["items"]["data"]
        if asked.get("starting_after") is not None:
            items = items[[item["id"] for item in items].index(asked["starting_after"]) + 1 :]
        size, view = min(int(asked.get("limit", 10)), self.page_rows), _View(request, "data.")
        data = [self._item(item, view) for item in items[:size]]
        return JSONResponse({"object": "list", "url": f"/v1/{kind}", "has_more": len(items) > size, "data": data})

    def _unknown(self, request: Request, kind: str) -> str | None:
        """What Stripe would say of a request that asks for what there is not."""
        is_list = "key" not in request.path_params
        known = (*_LIST, *PARAMETERS[kind]) if is_list else ("expand",)
        for name in request.query_params:
            if name.partition("[")[0] not in known:
                return f"Received unknown parameter: {name}"
        for expand in _expansions(request):
            if len(expand.split(".")) > 4:
                return "You cannot expand more than 4 levels of a property"
            path = expand.removeprefix("data.") if is_list else expand
            is_early = ".source" in path and request.headers.get("stripe-version", "") < CLOVER
            if (
                is_early
                or (is_list and not expand.startswith("data."))
                or not re.fullmatch(EXPANSIONS.get(kind, ""), path)
            ):
                return f"This property cannot be expanded ({expand})."
        return None

    async def _list(self, request: Request, kind: str) -> Response:
        asked = request.query_params
        types = asked.getlist("types[]")
        if len(types) > MOST_TYPES:
            return self.refusal(400, {"message": f"Array too long: maximum {MOST_TYPES} types"})
        customer = asked.get("customer")
        if customer is not None and (self.store.get("customers", customer) or {"deleted": True}).get("deleted"):
            return self.refusal(400, {"message": f"No such customer: '{customer}'"})
        order, size = self._order[kind], min(int(asked.get("limit", 10)), self.page_rows)
        oldest, newest = self._between(kind, asked)
        after, before = asked.get("starting_after"), asked.get("ending_before")
        for name in (after, before):
            if name is not None and (kind, name) not in self._place:
                return self.refusal(400, {"message": f"No such {kind[:-1]}: '{name}'"})
        found: list[Body] = []
        if before is not None:
            first = max(oldest, bisect_left(order, self._place[kind, before]) + 1)
            for _, _, key in order[first:newest]:
                if self._belongs(kind, key, asked, types):
                    found.insert(0, self.store.all(kind)[key])
                    if len(found) > size:
                        break
            has_more, found = len(found) > size, found[-size:]
        else:
            last = newest if after is None else min(newest, bisect_left(order, self._place[kind, after]))
            for _, _, key in reversed(order[oldest:last]):
                if self._belongs(kind, key, asked, types):
                    found.append(self.store.all(kind)[key])
                    if len(found) > size:
                        break
            has_more, found = len(found) > size, found[:size]
        if fault_of(request, "circle") is not None:
            has_more = True
            found = [self.store.all(kind)[key] for _, _, key in order[-1:]]
        data = [self._shown(kind, record, _View(request, "data.")) for record in found]
        return JSONResponse({"object": "list", "url": f"/v1/{kind}", "has_more": has_more, "data": data})

    def _between(self, kind: str, asked: Any) -> tuple[int, int]:
        """From where to where of a list `created` allows."""
        order = self._order[kind]

        def place(name: str, otherwise: int, plus: int) -> int:
            given = asked.get(f"created[{name}]")
            return otherwise if given is None else bisect_left(order, (int(given) + plus, -1, ""))

        oldest = max(place("gte", 0, 0), place("gt", 0, 1))
        return oldest, min(place("lt", len(order), 0), place("lte", len(order), 1))

    def _belongs(self, kind: str, key: str, asked: Any, types: list[str]) -> bool:
        record = self.store.all(kind)[key]
        if record.get("deleted"):
            return False
        status = asked.get("status")
        if kind == "subscriptions" and status is None and record.get("status") == "canceled":
            return False
        if status not in (None, "all", record.get("status")):
            return False
        if asked.get("subscription") not in (None, record.get("subscription")):
            return False
        if asked.get("customer") not in (None, record.get("customer")):
            return False
        if asked.get("payment[payment_intent]") not in (None, (record.get("payment") or {}).get("payment_intent")):
            return False
        return not types or record.get("type") in types

    def _shown(self, kind: str, record: Body, view: _View) -> Body:
        """An object as the vendor shows it: with nothing whole that has to be expanded and is not."""
        whole = {
            name: self.store.get(other, str(record.get(name))) for name, other in EXPANDED.items() if view.has(name)
        }
        record = {**record, **{name: found for name, found in whole.items() if found is not None}}
        if kind == "prices":
            record = _price(record, view)
        if kind == "coupons":
            record = _less(record, [name for name in ("applies_to", "currency_options") if not view.has(name)])
        if kind == "customers":
            record = self._with_discounts(record, view)
        if kind == "subscriptions":
            if isinstance(record.get("customer"), Mapping):
                record = {**record, "customer": self._with_discounts(record["customer"], view.within("customer"))}
            record = self._with_items(self._with_discounts(record, view), view)
        return record

    def _with_items(self, subscription: Body, view: _View) -> Body:
        items = subscription["items"]["data"]
        shown = [self._item(item, view.within("items.data")) for item in items[:MOST_EMBEDDED]]
        url, has_more = f"/v1/subscription_items?subscription={subscription['id']}", len(items) > MOST_EMBEDDED
        listed = {"object": "list", "data": shown, "has_more": has_more, "total_count": len(items), "url": url}
        return {**subscription, "items": listed}

    def _item(self, item: Body, view: _View) -> Body:
        item = self._with_discounts({"object": "subscription_item", **item}, view)
        return {**item, "price": _price(item["price"], view.within("price"))}

    def _with_discounts(self, owner: Body, view: _View) -> Body:
        """Discounts in a list are ids unless they are expanded; the one of a customer is shown."""
        several, one = owner.get("discounts"), owner.get("discount")
        if several and not view.has("discounts"):
            owner = {**owner, "discounts": [discount["id"] for discount in several]}
        elif several:
            owner = {**owner, "discounts": [self._discount(each, view.within("discounts")) for each in several]}
        return {**owner, "discount": self._discount(one, view.within("discount"))} if one else owner

    def _discount(self, discount: Body, view: _View) -> Body:
        coupon = self._coupons[discount["coupon"]]
        shown = _less(coupon, ["applies_to", "currency_options"])
        if view.version < CLOVER:
            return {**discount, "coupon": shown}
        source = {"type": "coupon", "coupon": shown if view.has("source.coupon") else coupon["id"]}
        return {**_less(discount, ["coupon"]), "source": source}


class _View:
    """How a request wants objects to be shown, from a place within them on."""

    def __init__(self, request: Request, place: str) -> None:
        self._expanded = [name.removeprefix(place) for name in _expansions(request) if name.startswith(place)]
        self._request, self._place = request, place
        self.version = request.headers.get("stripe-version", "")

    def has(self, name: str) -> bool:
        """Whether it is expanded, or something in it."""
        return any(one == name or one.startswith(f"{name}.") for one in self._expanded)

    def within(self, name: str) -> _View:
        return _View(self._request, f"{self._place}{name}.")


def _less(record: Mapping[str, Any], names: Iterable[str]) -> Body:
    return {name: value for name, value in record.items() if name not in set(names)}


def _price(price: Body, view: _View) -> Body:
    """A price without what has to be expanded and is not: of a currency's tiers, each on its own."""
    shown = _less(price, [name for name in ("tiers", "currency_options") if not view.has(name)])
    if "currency_options" in shown:
        shown["currency_options"] = {
            name: _less(option, () if view.has(f"currency_options.{name}.tiers") else ("tiers",))
            for name, option in shown["currency_options"].items()
        }
    return shown


def _expansions(request: Request) -> list[str]:
    """What is to be shown whole: `expand[]` or, as Stripe's own client writes it, `expand[0]`."""
    return [value for name, value in request.query_params.multi_items() if name.startswith("expand[")]


def _kinds_expanded(request: Request) -> list[str]:
    names = [name.removeprefix("data.") for name in _expansions(request)]
    return [EXPANDED[name] for name in names if name in EXPANDED]


@contextmanager
def running(home: Path) -> Iterator[str]:
    """The billing of the sandbox company in `home`, as Stripe: its address, for as long as the block runs."""
    standin = StripeStandIn(requests=1000)
    fill(standin, home / "sandbox" / "data" / "billing")
    with serving(standin) as url:
        yield url


def fill(standin: StripeStandIn, folder: Path) -> None:
    """Objects from the files of the sandbox's billing, the last version of each, and an event for each version since the first
    delivery.

    The company has no periods at Stripe: what its export calls a period is a subscription here, which is canceled when the
    period ends. Rows that were broken on purpose and that no Stripe could hold (without an id or an amount) are left out.
    """
    shapes = {"customers": _customer, "subscriptions": _subscription, "invoices": _invoice}
    standin.put("products", [{"id": f"prod_{name}", "name": name, "created": 0} for name in _products(folder)])
    for kind, shape in shapes.items():
        for row in _versions(folder / kind):
            record = shape(row)
            if row["is_first_delivery"]:
                standin.put(kind, [record])
            else:
                standin.change(kind, record, at=row["known_at"])


def _products(folder: Path) -> list[str]:
    with scratch() as connection:
        found = rows(connection, f"select distinct product from {_files(folder / 'subscriptions')} order by 1")
        return [row["product"] for row in found]


def _files(folder: Path) -> str:
    return f"read_json({literal(str(folder / '*.jsonl.gz'))}, filename = true, union_by_name = true)"


def _versions(folder: Path) -> list[dict[str, Any]]:
    """The versions of every row, in the order in which they were known; of those of one delivery the last."""
    amount = {"subscriptions": "mrr_cents >= 0", "invoices": "amount_cents is not null"}.get(folder.name, "true")
    owner = "true" if folder.name == "customers" else "customer is not null"
    with scratch() as connection:
        return rows(
            connection,
            "with told as (select *, cast(left(parse_filename(filename), 10) as date) as day"
            f" from {_files(folder)}), first as (select min(day) as day from told)"
            " select told.* exclude (filename, day), told.day = first.day as is_first_delivery,"
            " greatest(updated, cast(epoch(told.day) as bigint)) as known_at"
            f" from told, first where id is not null and {amount} and {owner} and updated is not null"
            " and {created} is not null".format(created="start" if folder.name == "subscriptions" else "created")
            + " qualify row_number() over (partition by id, told.day order by updated desc, filename desc) = 1"
            " and updated >= max(updated) over (partition by id order by told.day rows between unbounded preceding and current row)"
            " order by told.day, known_at, id",
        )


def _customer(row: Mapping[str, Any]) -> Body:
    email = f"billing@{row['email_domain']}" if row["email_domain"] else None
    return {
        "id": row["id"],
        "name": row["name"],
        "email": email,
        "address": None,
        "currency": "usd",
        "metadata": row["metadata"],
        "created": row["created"],
    }


def _subscription(row: Mapping[str, Any]) -> Body:
    quantity = row["quantity"]
    a_bill = row["mrr_cents"] * (12 if row["interval"] == "year" else 1)
    price = {
        "id": f"price_{row['product']}_{row['plan']}_{row['interval']}",
        "nickname": row["plan"],
        "product": f"prod_{row['product']}",
        "currency": "usd",
        "billing_scheme": "per_unit",
        "unit_amount": None,
        "unit_amount_decimal": f"{a_bill / (quantity or 1):.12f}",
        "recurring": {"interval": row["interval"], "interval_count": 1, "usage_type": "licensed"},
    }
    item = {
        "id": f"item_{row['id']}",
        "price": price,
        "quantity": quantity,
        "discounts": [],
        "current_period_end": row["current_period_end"],
    }
    running = "trialing" if row["trial"] else "active"
    return {
        "id": row["id"],
        "customer": row["customer"],
        "status": running if row["end"] is None else "canceled",
        "currency": "usd",
        "items": {"object": "list", "data": [item]},
        "discounts": [],
        "trial_start": row["start"] if row["trial"] else None,
        "pause_collection": None,
        "start_date": row["start"],
        "trial_end": (row["end"] or row["current_period_end"]) if row["trial"] else None,
        "ended_at": row["end"],
        "canceled_at": row["end"],
        "cancellation_details": {"reason": None, "feedback": None},
        "metadata": {"end_reason": row["end_reason"]} if row["end_reason"] else {},
        "created": row["start"],
    }


def _invoice(row: Mapping[str, Any]) -> Body:
    return {
        "id": row["id"],
        "customer": row["customer"],
        "status": row["status"],
        "currency": "usd",
        "total": row["amount_cents"],
        "total_excluding_tax": row["amount_cents"],
        "attempt_count": row["attempt_count"],
        "due_date": row["due_date"],
        "status_transitions": {"finalized_at": row["created"], "paid_at": row["paid_at"]},
        "metadata": {},
        "created": row["created"],
    }
