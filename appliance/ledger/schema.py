"""The tables, as SQLAlchemy Core metadata.

What it is: the one description of the schema that migrations are compared with (a test does), in types that SQLite
and PostgreSQL both have: text ids, Unix milliseconds as 64-bit integers, doubles, booleans. Money is whole nano-dollars
(``*_nusd``, 10⁻⁹ USD, so that sums are exact); prices are decimal text; compute time is nanoseconds (``*_ns``).
What it refuses to be: imported by the gateway's hot path. SQLAlchemy costs some 25 MB and 0.2 s; ``upgrade``, the
admin routes and the command line pay it when they are first used.
What it costs: every index is paid at every request, so there is one on the hot path (``requests_open``, some 2 µs a
request, always one page because it only holds what runs now) and none that serves reports alone: ids of requests sort
by time, so a range of ids is a range of time.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
    }
)

# Names and values of the ledger itself: ledger_id, kind ("real" or "simulated"), auth_version (raised by every change
# to tenants, keys, prices, coefficients or server costs; gateways look at it four times a second).
meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("cache_salt", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("secret", Text, nullable=False, server_default=""),  # hex; keys the HMACs of threads and subjects
    Column("residency", Text, nullable=False, server_default="local_only"),
    Column("regions", Text, nullable=False, server_default="[]"),  # JSON array; where hosted models may run
    Column("languages", Text, nullable=False, server_default="[]"),  # JSON array of tags; empty means all
    Column("cap_nusd", BigInteger),  # a month; NULL means none
    Column("store_text", Boolean, nullable=False, server_default=false()),
    # translations are kept for the next time; only together with store_text
    Column("translation_memory", Boolean, nullable=False, server_default=false()),
    Column("text_days", Integer, nullable=False, server_default="90"),
    Column("log_days", Integer, nullable=False, server_default="365"),  # the least that must be kept
    Column("legal_hold", Boolean, nullable=False, server_default=false()),
    Column("presume_after_h", Integer, nullable=False, server_default="72"),
    Column("disabled_ms", BigInteger),
    sqlite_with_rowid=False,
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),  # SHA-256 of the secret, hex
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    Column("models", Text, nullable=False, server_default="[]"),  # JSON array; empty means all
    Column("endpoints", Text, nullable=False, server_default="[]"),  # JSON array; empty means all
    Column("residency", Text),  # NULL: the tenant's
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("max_concurrent", Integer),
    Column("cap_nusd", BigInteger),  # a month; NULL means none
    Column("expires_ms", BigInteger),
    sqlite_with_rowid=False,
)

# A revoked key gives its name back; two live keys of one tenant never share one.
Index(
    "keys_live_name",
    keys.c.tenant_id,
    keys.c.name,
    unique=True,
    sqlite_where=text("revoked_ms IS NULL"),
    postgresql_where=text("revoked_ms IS NULL"),
)

# A gateway process; what one leaves open when its beat stops is settled as lost by any other.
gateways = Table(
    "gateways",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("beat_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    sqlite_with_rowid=False,
)

# ``id`` is ours (conv_…) or the caller's own, and means something only together with the tenant.
conversations = Table(
    "conversations",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("id", Text, primary_key=True),
    Column("key_id", Text, nullable=False),  # the key that opened it
    Column("channel", Text, nullable=False),  # whatsapp, voice, ivr, web, api
    Column("language", Text),
    Column("intent", Text),
    Column("value_class", Text),
    Column("subject", Text),  # HMAC of the caller's ``user``, hex
    Column("opened_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    # open, resolved, unresolved, handed_to_human, presumed_resolved
    Column("state", Text, nullable=False),
    Column("state_ms", BigInteger, nullable=False),
    Column("reopened", Integer, nullable=False, server_default="0"),
    Column("requests", Integer, nullable=False, server_default="0"),
    Column("answered_by", Text),  # the route of its last answer: local, pivot, hosted
    Column("escalated", Boolean, nullable=False, server_default=false()),  # any answer after its first route
    Column("hosted_nusd", BigInteger, nullable=False, server_default="0"),
    Column("energy_nusd", BigInteger, nullable=False, server_default="0"),
    Column("work_ns", BigInteger, nullable=False, server_default="0"),
    Column("busy_ns", BigInteger, nullable=False, server_default="0"),  # reconciled requests only
    sqlite_with_rowid=False,
)

Index("conversations_opened", conversations.c.opened_ms)

# A recorded history: the HMAC over tenant, key, user and the messages up to an assistant's answer. NULL where two
# conversations share one, so that it identifies neither.
threads = Table(
    "threads",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("hash", LargeBinary, primary_key=True),
    Column("conversation_id", Text),
    Column("at_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Without a rowid the primary key is the table: one B-tree to write instead of two.
requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("key_id", Text, ForeignKey("keys.id"), nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),  # as the caller named it
    Column("stream", Boolean, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("http_status", Integer),
    Column("error_code", Text),
    Column("total_ms", Double),
    Column("ttft_ms", Double),
    Column("finished_ms", BigInteger),
    Column("conversation_id", Text),  # NULL for what was refused at admission
    Column("gateway_id", Text),
    Column("month", Integer),  # the budget month it is charged to, 202611
    Column("reserved_nusd", BigInteger, nullable=False, server_default="0"),
    Column("route", Text),  # of the attempt that answered, or the last one tried
    Column("reason", Text),
    Column("escalated", Boolean, nullable=False, server_default=false()),  # not answered by its first route
    # sums over its calls, so that a report need not read those
    Column("prompt_tokens", BigInteger, nullable=False, server_default="0"),
    Column("cached_tokens", BigInteger, nullable=False, server_default="0"),
    Column("completion_tokens", BigInteger, nullable=False, server_default="0"),
    Column("audio_s", Double, nullable=False, server_default="0"),
    Column("hosted_nusd", BigInteger, nullable=False, server_default="0"),
    Column("energy_nusd", BigInteger, nullable=False, server_default="0"),  # as booked, by the coefficients
    Column("work_ns", BigInteger, nullable=False, server_default="0"),  # by the coefficients
    Column("busy_ns", BigInteger),  # its share of measured busy time; NULL until reconciled
    sqlite_with_rowid=False,
)

Index(
    "requests_open",
    requests.c.id,
    sqlite_where=text("status = 'open'"),
    postgresql_where=text("status = 'open'"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("request_id", Text, ForeignKey("requests.id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("engine", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("error_code", Text),
    Column("total_ms", Double, nullable=False),
    sqlite_with_rowid=False,
)

calls = Table(
    "calls",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("attempt_ordinal", Integer, primary_key=True, autoincrement=False),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("engine", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),  # cached ones included
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),  # thinking ones included
    Column("audio_s", Double, nullable=False),
    Column("finish_reason", Text),
    Column("ttft_ms", Double),
    Column("total_ms", Double, nullable=False),
    Column("thinking_tokens", BigInteger, nullable=False, server_default="0"),
    Column("characters", BigInteger, nullable=False, server_default="0"),
    Column("provider", Text, nullable=False, server_default="local"),  # local, or who hosts the model
    Column("hosted_nusd", BigInteger, nullable=False, server_default="0"),
    Column("work_ns", BigInteger, nullable=False, server_default="0"),  # by the coefficients; 0 for hosted
    ForeignKeyConstraint(["request_id", "attempt_ordinal"], ["attempts.request_id", "attempts.ordinal"]),
    sqlite_with_rowid=False,
)

# Only where the tenant opted in. ``prompt`` is the JSON of the messages, ``answer`` the text of the answer.
texts = Table(
    "texts",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("answer", Text, nullable=False),
    sqlite_with_rowid=False,
)

Index("texts_conversation", texts.c.tenant_id, texts.c.conversation_id)

# What the judge decided, one row per request judged: what fitting and replaying a policy learn from. It holds no text
# and goes with the attempts. ``reason`` is NULL for a commit.
decisions = Table(
    "decisions",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("policy", Text, nullable=False),  # version in force
    Column("parameters", Text, nullable=False),  # version of what was fitted; empty: set by hand
    Column("intent", Text),
    Column("language", Text),
    Column("value_class", Text),
    Column("route", Text, nullable=False),  # that was judged: local, pivot; hosted for a shadow run
    Column("alternative", Text),  # NULL: no escalation was permitted
    Column("verdict", Text, nullable=False),  # commit, escalate
    Column("reason", Text),
    Column("p_fail", Double, nullable=False),
    Column("p_fail_alternative", Double),
    Column("propensity", Double, nullable=False),  # how likely the verdict was
    Column("cost_nusd", BigInteger, nullable=False),  # expected of the alternative
    Column("extra_s", Double, nullable=False),  # that the customer would have waited longer for it
    Column("signals", Text, nullable=False),  # JSON object of numbers
    Column("shadow_of", Text),  # the request that this one answered a second time
    Column("agreement", Double),  # of the two answers
    sqlite_with_rowid=False,
)

# What callers said became of a conversation; never changed, the newest one counts.
outcomes = Table(
    "outcomes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("source", Text, nullable=False),  # api, silence, reopened
    Column("key_id", Text),
    Column("resolved", Boolean),
    Column("handed_to_human", Boolean),
    Column("csat", Integer),  # 1 to 5
    Column("note", Text),
    sqlite_with_rowid=False,
)

Index("outcomes_conversation", outcomes.c.tenant_id, outcomes.c.conversation_id)
Index("outcomes_at", outcomes.c.at_ms, outcomes.c.id)

# What a month has spent and holds back for running requests. ``scope`` is tenant or key.
budgets = Table(
    "budgets",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("scope_id", Text, primary_key=True),
    Column("month", Integer, primary_key=True, autoincrement=False),
    Column("spent_nusd", BigInteger, nullable=False, server_default="0"),
    Column("reserved_nusd", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

# Rate limits of a key as token buckets, and the row that serialises its concurrency across processes.
meters = Table(
    "meters",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("requests", Double, nullable=False),  # left in the bucket
    Column("tokens", Double, nullable=False),
    Column("filled_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Answers kept for a while for callers that sent an Idempotency-Key. NULL status: still running.
idempotency = Table(
    "idempotency",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),  # the header's value
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of path and body
    Column("request_id", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("http_status", Integer),
    Column("content_type", Text),
    Column("headers", Text),  # JSON object
    Column("body", LargeBinary),
    sqlite_with_rowid=False,
)

# ``unit``: prompt_token, cached_token, completion_token, thinking_token, audio_token, audio_s, character.
prices = Table(
    "prices",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("batch", Boolean, primary_key=True),
    Column("effective_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("usd_per_million", Text, nullable=False),  # decimal
    Column("source", Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

# What the server costs from a date on; decimal text.
server_costs = Table(
    "server_costs",
    metadata,
    Column("effective_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("purchase_usd", Text, nullable=False),
    Column("lifetime_months", Integer, nullable=False),
    Column("upkeep_usd_per_month", Text, nullable=False, server_default="0"),  # rack, network, people
    Column("busy_w", Integer, nullable=False),
    Column("idle_w", Integer, nullable=False),
    Column("tariff_inr_per_kwh", Text, nullable=False),
    Column("inr_per_usd", Text, nullable=False),
    sqlite_with_rowid=False,
)

# Nanoseconds of the server one unit of a model's work takes, from a measured profile. ``model`` "*": any other.
coefficients = Table(
    "coefficients",
    metadata,
    Column("model", Text, primary_key=True),
    Column("effective_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("prompt_token_ns", Double, nullable=False),  # uncached ones
    Column("completion_token_ns", Double, nullable=False),
    Column("audio_s_ns", Double, nullable=False),
    Column("character_ns", Double, nullable=False),
    Column("source", Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

# Per engine and hour: how long anything ran on it (measured), and, once reconciled, what the coefficients say ran.
# A call's share of busy time is its work_ns × busy_ns ÷ work_ns of its engine's hour.
engine_hours = Table(
    "engine_hours",
    metadata,
    Column("engine", Text, primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("gateway_id", Text, primary_key=True),
    Column("busy_ns", BigInteger, nullable=False),
    Column("up_ns", BigInteger, nullable=False),
    Column("work_ns", BigInteger),  # NULL until reconciled
    sqlite_with_rowid=False,
)

# Who changed what. Triggers refuse UPDATE, DELETE and, on SQLite, REPLACE.
audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),  # a key's id, or cli:<user>
    Column("tenant_id", Text),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("before", Text),  # JSON
    Column("after", Text),
    sqlite_with_rowid=False,
)

# Housekeeping that exactly one process may do at a time.
jobs = Table(
    "jobs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text),
    Column("lease_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("ran_ms", BigInteger),
    Column("detail", Text),
    sqlite_with_rowid=False,
)

# Words that a tenant wants left alone or translated in one way. ``form`` is the term as it is compared, after "=" where
# capitals count and "~" where they do not.
glossary_terms = Table(
    "glossary_terms",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("glossary", Text, primary_key=True),
    Column("form", Text, primary_key=True),
    Column("source", Text, primary_key=True),  # a tag, or * for every language
    Column("target", Text, primary_key=True),
    Column("term", Text, nullable=False),
    Column("translation", Text),  # NULL: stays as it is
    Column("case", Text, nullable=False),  # smart, any, exact
    Column("note", Text, nullable=False, server_default=""),
    Column("at_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Translations kept for the next time, only where the tenant opted in. ``hash`` is of the text as it was, ``alike`` of
# its normal form (translation/memory.py).
translations = Table(
    "translations",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("hash", LargeBinary, primary_key=True),
    Column("id", Text, nullable=False),  # sorts by time
    Column("alike", LargeBinary, nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("variant", Text, nullable=False, server_default=""),  # what else made it: glossary, digits
    Column("text", Text, nullable=False),
    Column("translation", Text, nullable=False),
    Column("origin", Text, nullable=False),  # model, person
    Column("conversation_id", Text),  # where it was said first
    Column("at_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger, nullable=False),  # to the day
    sqlite_with_rowid=False,
)

Index("translations_alike", translations.c.tenant_id, translations.c.alike)
