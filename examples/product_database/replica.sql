-- On the replica, once: a database of its own that follows the product's, and remembers what is deleted there.
--
-- psql "$REPLICA" -v product="host=… dbname=… user=tenure_replica password=…" -f replica.sql -f views.sql
--
-- The tables in `app` are the product's: the columns that publication.sql sends, without foreign keys. Only updated_at is the replica's
-- own: when it heard of the row. So there is a cursor even where the product has none, and a replica that lags loses nothing.
-- The views in `kept` add what was deleted; views.sql is run on them.
-- https://www.postgresql.org/docs/current/logical-replication-subscription.html
-- https://www.postgresql.org/docs/current/logical-replication-architecture.html (triggers on a subscriber)
create schema app;

create table app.workspaces (
    id bigint primary key,
    name text,
    domain text,
    country text,
    is_internal boolean,
    created_at timestamptz,
    deleted_at timestamptz,
    updated_at timestamptz not null default clock_timestamp()
);

create table app.users (
    id bigint primary key,
    is_staff boolean,
    created_at timestamptz,
    deleted_at timestamptz,
    updated_at timestamptz not null default clock_timestamp()
);

create table app.members (
    workspace_id bigint,
    user_id bigint,
    role text,
    joined_at timestamptz,
    deleted_at timestamptz,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (workspace_id, user_id)
);

create table app.events (
    id bigint primary key,
    user_id bigint,
    area text,
    action text,
    properties jsonb,
    occurred_at timestamptz,
    deleted_at timestamptz,
    updated_at timestamptz not null default clock_timestamp()
);

create table app.nps_answers (
    id bigint primary key,
    user_id bigint,
    score integer,
    answered_at timestamptz,
    deleted_at timestamptz,
    updated_at timestamptz not null default clock_timestamp()
);

create table app.plans (id text primary key, name text, seat_cents integer, billing_interval text);

create table app.subscriptions (
    id bigint primary key,
    workspace_id bigint,
    plan_id text,
    seats integer,
    is_trial boolean,
    starts_on date,
    ends_on date,
    end_reason text,
    deleted_at timestamptz,
    updated_at timestamptz not null default clock_timestamp()
);

-- Not kept in their own tables: a row that comes back would clash with itself there, and a conflict stops replication.
-- https://www.postgresql.org/docs/current/logical-replication-conflicts.html
create table app.deletions (
    table_name text,
    key jsonb,
    deleted jsonb not null,
    primary key (table_name, key)
);

-- The arguments of the trigger are the columns of the table's key. A row that comes back is no longer deleted: a filter may have
-- hidden it for a while, which looks like a deletion. Names have their schema, since replication has no search_path.
create function app.note_change() returns trigger language plpgsql as $$
declare
    told jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
    told_key jsonb := (select jsonb_agg(told -> name) from unnest(tg_argv) as name);
    moment timestamptz := clock_timestamp();
begin
    delete from app.deletions where table_name = tg_table_name and key = told_key;
    if tg_op = 'DELETE' then
        told := told || jsonb_build_object('deleted_at', coalesce(old.deleted_at, moment), 'updated_at', moment);
        insert into app.deletions values (tg_table_name, told_key, told);
        return old;
    end if;
    new.updated_at := moment;
    return new;
end
$$;

create schema kept;

create view kept.plans as select * from app.plans;

-- ENABLE REPLICA: the trigger is for what replication writes, which fires no ordinary trigger.
do $$
declare
    name text;
    key text;
begin
    for name, key in values
        ('workspaces', 'id'),
        ('users', 'id'),
        ('members', 'workspace_id, user_id, joined_at'),
        ('events', 'id'),
        ('nps_answers', 'id'),
        ('subscriptions', 'id')
    loop
        execute format('create index on app.%I (updated_at)', name);
        execute format(
            'create trigger note_change before insert or update or delete on app.%I'
            ' for each row execute function app.note_change(%s)', name, key
        );
        execute format('alter table app.%I enable replica trigger note_change', name);
        execute format(
            'create view kept.%1$I as select * from app.%1$I union all'
            ' select (jsonb_populate_record(null::app.%1$I, deleted)).* from app.deletions where table_name = %1$L', name
        );
    end loop;
end
$$;

-- Copies what is there, and follows. Let Tenure read when all tables are: select * from pg_subscription_rel where srsubstate <> 'r'.
create subscription tenure connection :'product' publication tenure;

set search_path = kept;
