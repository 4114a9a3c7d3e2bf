-- What Tenure may read: a view for each stream, and a login that sees nothing else.
--
-- Names, e-mail addresses, comments and IP addresses are left out here, so that no mistake in tenure.yml can bring them over.
-- The tables are those of the session's search_path: `app`, after schema.sql, or `kept` on a replica, after replica.sql.
-- Large views hand updated_at on as it is, so that PostgreSQL can use its indexes. A view may leave rows out by what does not change:
-- a row that it shows only later has an old updated_at by then, and Tenure reads it with `tenure run --full` only.
create schema tenure;

-- Workspaces that are deleted stay: customers who left are what the churn model learns from.
create view tenure.workspaces as
select id, name, domain, country, created_at, updated_at
from workspaces
where not is_internal;

create view tenure.members as
select members.user_id, members.workspace_id, members.role, members.joined_at, members.updated_at
from members
join workspaces on workspaces.id = members.workspace_id
join users on users.id = members.user_id
where not workspaces.is_internal and not users.is_staff;

-- One row a person, with the role of the last workspace that they joined. It changes with either of two tables; they are small.
create view tenure.people as
select distinct on (users.id)
    users.id,
    members.role,
    users.created_at,
    users.deleted_at,
    greatest(users.updated_at, members.updated_at) as updated_at
from users
join tenure.members as members on members.user_id = users.id
order by users.id, members.joined_at desc;

-- What our own people do in a customer's workspace is no usage, nor is what an open window sends by itself.
create view tenure.events as
select
    events.id,
    events.user_id,
    events.area,
    events.action,
    events.properties,
    events.occurred_at,
    events.updated_at,
    events.deleted_at
from events
join users on users.id = events.user_id
where not users.is_staff and events.action <> 'heartbeat';

create view tenure.nps_answers as
select
    nps_answers.id,
    nps_answers.user_id,
    nps_answers.score,
    nps_answers.answered_at,
    nps_answers.updated_at,
    nps_answers.deleted_at
from nps_answers
join users on users.id = nps_answers.user_id
where not users.is_staff;

create view tenure.subscriptions as
select
    subscriptions.id,
    subscriptions.workspace_id,
    plans.name as plan,
    plans.seat_cents,
    plans.billing_interval,
    subscriptions.seats,
    subscriptions.is_trial,
    subscriptions.starts_on,
    subscriptions.ends_on,
    subscriptions.end_reason,
    subscriptions.updated_at,
    subscriptions.deleted_at
from subscriptions
join plans on plans.id = subscriptions.plan_id
join workspaces on workspaces.id = subscriptions.workspace_id
where not workspaces.is_internal;

-- Roles belong to the server, not to the database: it may be there. Give it a password with \password tenure_reader.
do $$
begin
    if not exists (select from pg_roles where rolname = 'tenure_reader') then
        create role tenure_reader login;
    end if;
end
$$;

grant usage on schema tenure to tenure_reader;

grant select on all tables in schema tenure to tenure_reader;
