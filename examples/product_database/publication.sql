-- On the product's database, once, by its owner: what leaves it for the replica that Tenure reads.
--
-- The columns that are not listed (names of persons, e-mail and IP addresses, comments) are not sent, and rows of our own workspaces
-- and people neither. Needs PostgreSQL 15 or later and wal_level = logical, which takes a restart.
-- https://www.postgresql.org/docs/current/sql-createpublication.html
-- https://www.postgresql.org/docs/current/logical-replication-col-lists.html
-- https://www.postgresql.org/docs/current/logical-replication-row-filter.html

-- The login of the subscription. It copies by select, which these columns suffice for, and then follows the log, which tells more to
-- who asks for more: trust it as you trust the owner. Give it a password with \password tenure_replica.
create role tenure_replica login replication;

grant usage on schema app to tenure_replica;

grant select (id, name, domain, country, is_internal, created_at, deleted_at) on app.workspaces to tenure_replica;

grant select (id, is_staff, created_at, deleted_at) on app.users to tenure_replica;

grant select (workspace_id, user_id, role, joined_at, deleted_at) on app.members to tenure_replica;

grant select (id, user_id, area, action, properties, occurred_at, deleted_at) on app.events to tenure_replica;

grant select (id, user_id, score, answered_at, deleted_at) on app.nps_answers to tenure_replica;

grant select on app.plans to tenure_replica;

grant select (id, workspace_id, plan_id, seats, is_trial, starts_on, ends_on, end_reason, deleted_at) on app.subscriptions
to tenure_replica;

-- Of updates and deletions the log has the columns of the replica identity. A filter may name no other: updates of the table would fail.
create unique index workspaces_identity on app.workspaces (id, is_internal);

alter table app.workspaces replica identity using index workspaces_identity;

create unique index users_identity on app.users (id, is_staff);

alter table app.users replica identity using index users_identity;

create publication tenure for table
    app.workspaces (id, name, domain, country, is_internal, created_at, deleted_at) where (not is_internal),
    app.users (id, is_staff, created_at, deleted_at) where (not is_staff),
    app.members (workspace_id, user_id, role, joined_at, deleted_at),
    app.events (id, user_id, area, action, properties, occurred_at, deleted_at),
    app.nps_answers (id, user_id, score, answered_at, deleted_at),
    app.plans,
    app.subscriptions (id, workspace_id, plan_id, seats, is_trial, starts_on, ends_on, end_reason, deleted_at)
with (publish = 'insert, update, delete');
