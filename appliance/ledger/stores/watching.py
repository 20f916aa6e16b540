"""What operators look at and nobody changes here: the audit, what months have spent, and the jobs.

What it refuses to be: across tenants by accident. ``tenant_id`` None is everything, which only an admin key or the
command line may ask for.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, RowMapping, and_, or_, select

from appliance.ledger.months import month_name
from appliance.ledger.schema import audit, budgets, jobs, keys, tenants
from appliance.ledger.stores import values
from appliance.ledger.stores.pages import Page, paged

_Fields = dict[str, Any]


class AuditLine(Struct, frozen=True):
    """One change: who, what, and of the values only what differs. Times in Unix milliseconds."""

    id: str
    at_ms: int
    actor: str
    tenant_id: str | None
    action: str
    target: str
    before: _Fields | None
    after: _Fields | None


class BudgetInfo(Struct, frozen=True):
    """What a tenant or a key has spent in a month and holds back for running requests, in nano-USD."""

    tenant_id: str
    scope: str
    scope_id: str
    month: str
    spent_nusd: int
    reserved_nusd: int
    cap_nusd: int | None


class JobInfo(Struct, frozen=True):
    """A housekeeping job: when it last ran, what came of it, and until when somebody has it."""

    name: str
    ran_ms: int | None
    detail: str | None
    lease_until_ms: int


def audited(
    engine: Engine,
    tenant_id: str | None,
    *,
    actor: str | None = None,
    action: str | None = None,
    target: str | None = None,
    at: str | None = None,
    limit: int = 50,
) -> Page[AuditLine]:
    """Newest first. A line that is about no tenant (a price) shows to whoever sees all. Raises ValueError."""
    c = audit.c
    query = select(audit)
    for column, value in ((c.tenant_id, tenant_id), (c.actor, actor), (c.action, action), (c.target, target)):
        if value is not None:
            query = query.where(column == value)
    return paged(engine, query, (c.at_ms, c.id), _line, at=at, limit=limit, descending=True)


def spent(
    engine: Engine,
    tenant_id: str | None,
    *,
    month: int | None = None,
    scope: str | None = None,
    at: str | None = None,
    limit: int = 50,
) -> Page[BudgetInfo]:
    """By month, oldest first, then tenant or key. Raises ValueError."""
    b = budgets.c
    whose = and_(b.scope == "key", keys.c.id == b.scope_id)
    owner = or_(and_(b.scope == "tenant", tenants.c.id == b.scope_id), tenants.c.id == keys.c.tenant_id)
    query = select(
        budgets, tenants.c.id.label("tenant_id"), tenants.c.cap_nusd.label("of_tenant"), keys.c.cap_nusd
    ).select_from(budgets.outerjoin(keys, whose).join(tenants, owner))
    if scope is not None:
        query = query.where(b.scope == values.one_of(scope, ("tenant", "key"), "the scope"))
    for column, value in ((tenants.c.id, tenant_id), (b.month, month)):
        if value is not None:
            query = query.where(column == value)
    return paged(engine, query, (b.month, b.scope, b.scope_id), _budget, at=at, limit=limit)


def jobs_page(engine: Engine, *, at: str | None = None, limit: int = 50) -> Page[JobInfo]:
    """By name. Raises ValueError."""
    query = select(*(jobs.c[field] for field in JobInfo.__struct_fields__))
    return paged(engine, query, (jobs.c.name,), _job, at=at, limit=limit)


def _line(row: RowMapping) -> AuditLine:
    fields = {field: row[field] for field in AuditLine.__struct_fields__}
    for name in ("before", "after"):
        fields[name] = None if fields[name] is None else msgspec.json.decode(fields[name], type=_Fields)
    return AuditLine(**fields)


def _budget(row: RowMapping) -> BudgetInfo:
    cap = row["of_tenant"] if row["scope"] == "tenant" else row["cap_nusd"]
    return BudgetInfo(
        row["tenant_id"],
        row["scope"],
        row["scope_id"],
        month_name(row["month"]),
        row["spent_nusd"],
        row["reserved_nusd"],
        cap,
    )


def _job(row: RowMapping) -> JobInfo:
    return JobInfo(*(row[field] for field in JobInfo.__struct_fields__))
