-- The database of a product, as its developers made it: an application server writes here, and nobody thought of Tenure.
--
-- Every table has updated_at, which the application sets with each change, and deleted_at, which it sets instead of deleting.
-- Run this file, seed.sql and views.sql in one session: psql "$PRODUCT_DB" -f schema.sql -f seed.sql -f views.sql
create schema app;

set search_path = app;

create table workspaces (
    id bigint primary key,
    name text not null,
    domain text,
    country text,
    billing_email text,
    is_internal boolean not null default false,  -- our own, for trying things out
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);

create table users (
    id bigint primary key,
    name text not null,
    email text not null,
    is_staff boolean not null default false,  -- one of us, who helps in a customer's workspace
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);

-- Who belongs where. A user who changes the company is taken out of one workspace and put into another.
create table members (
    workspace_id bigint not null references workspaces,
    user_id bigint not null references users,
    role text not null,
    joined_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    primary key (workspace_id, user_id)
);

-- What users do. An event has no workspace: its user tells. Devices send late, so that occurred_at may be long before updated_at.
create table events (
    id bigint primary key,
    user_id bigint not null references users,
    area text not null,
    action text not null,
    properties jsonb not null default '{}',
    ip inet,
    occurred_at timestamptz not null,
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);

-- "How likely are you to recommend us?"
create table nps_answers (
    id bigint primary key,
    user_id bigint not null references users,
    score integer not null check (score between 0 and 10),
    comment text,
    answered_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);

create table plans (
    id text primary key,
    name text not null,
    seat_cents integer not null,  -- for one seat and one interval, in US cents
    billing_interval text not null check (billing_interval in ('month', 'year'))
);

-- A change of plan or seats ends a row and starts another.
create table subscriptions (
    id bigint primary key,
    workspace_id bigint not null references workspaces,
    plan_id text not null references plans,
    seats integer not null,
    is_trial boolean not null default false,
    starts_on date not null,
    ends_on date,
    end_reason text,
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);

-- Tenure asks for what was written since: without these, each run would read the whole tables.
create index on workspaces (updated_at);

create index on members (updated_at);

create index on events (updated_at);

create index on nps_answers (updated_at);

create index on subscriptions (updated_at);
