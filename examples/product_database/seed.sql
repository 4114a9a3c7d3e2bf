-- A little of life for schema.sql: 120 workspaces from January 2024 to June 2025, the same each time.
--
-- Run in the session of schema.sql. pick(n, text) is a number from 0 to n - 1 that the text decides.
create function pg_temp.pick(n integer, what text) returns integer language sql immutable
return (('x' || left(md5(what), 7))::bit(28)::integer) % n;

insert into plans values
('team-monthly', 'Team', 1200, 'month'),
('team-yearly', 'Team', 12000, 'year'),
('business-monthly', 'Business', 2500, 'month');

-- Workspace 1 is our own.
insert into workspaces (id, name, domain, country, billing_email, is_internal, created_at, updated_at)
select
    n,
    'Company ' || n,
    'company' || n || '.example',
    (array['DE', 'FR', 'US', 'GB'])[1 + pg_temp.pick(4, 'country' || n)],
    'billing@company' || n || '.example',
    n = 1,
    began,
    began
from generate_series(1, 120) as n
cross join lateral (select timestamptz '2024-01-01 09:00Z' + pg_temp.pick(420, 'began' || n) * interval '1 day' as began) as life;

-- Five persons for each; those of the first are us.
insert into users (id, name, email, is_staff, created_at, updated_at)
select n, 'Person ' || n, 'person' || n || '@example.com', n <= 5, created_at, created_at
from generate_series(1, 600) as n
join workspaces on workspaces.id = 1 + (n - 1) / 5;

insert into members (workspace_id, user_id, role, joined_at, updated_at)
select
    1 + (id - 1) / 5,
    id,
    case when id % 5 = 1 then 'owner' else 'member' end,
    created_at,
    created_at
from users;

-- We help in workspace 2. Every fiftieth user changes the company: workspaces 10 to 110 lose their last person to the one after.
insert into members (workspace_id, user_id, role, joined_at, updated_at) values (2, 1, 'guest', '2024-06-01', '2024-06-01');

insert into members (workspace_id, user_id, role, joined_at, updated_at)
select workspace_id + 1, user_id, 'member', '2025-04-01', '2025-04-01'
from members
where user_id % 50 = 0 and user_id < 600;

update members set updated_at = '2025-04-01', deleted_at = '2025-04-01'
where user_id % 50 = 0 and user_id < 600 and joined_at <> '2025-04-01';

-- Two weeks of trial, and then a plan; two of five leave, and every sixth that stays buys seats after half a year.
create temp table lives as
select
    id,
    created_at::date as came,
    case when pg_temp.pick(5, 'leaves' || id) < 2 then created_at::date + 60 + pg_temp.pick(300, 'until' || id) end as left_on
from workspaces;

insert into subscriptions (id, workspace_id, plan_id, seats, is_trial, starts_on, ends_on, end_reason, updated_at)
select id * 10, id, 'team-monthly', 5, true, came, came + 14, 'completed', came + 14 from lives
union all
select
    id * 10 + 1,
    id,
    (array['team-monthly', 'team-yearly', 'business-monthly'])[1 + pg_temp.pick(3, 'plan' || id)],
    5,
    false,
    came + 14,
    coalesce(left_on, came + 200),
    case when left_on is null then 'migrated' else 'canceled' end,
    coalesce(left_on, came + 200)
from lives
where left_on < '2025-07-01' or (id % 6 = 0 and left_on is null)
union all
select
    id * 10 + 2,
    id,
    (array['team-monthly', 'team-yearly', 'business-monthly'])[1 + pg_temp.pick(3, 'plan' || id)],
    case when id % 6 = 0 and left_on is null then 8 else 5 end,
    false,
    case when id % 6 = 0 and left_on is null then came + 200 else came + 14 end,
    null,
    null,
    came + 14
from lives
where left_on is null or left_on >= '2025-07-01';

delete from subscriptions where starts_on >= '2025-07-01';

update subscriptions set ends_on = null, end_reason = null where ends_on >= '2025-07-01';

-- Two working days of five, and one of ten in the last month of those who leave.
insert into events (id, user_id, area, action, properties, ip, occurred_at, updated_at)
select
    row_number() over (order by day, user_id),
    user_id,
    (array['reports', 'editor', 'exports'])[1 + pg_temp.pick(3, 'area' || user_id || day)],
    (array['opened', 'saved', 'shared', 'heartbeat'])[1 + pg_temp.pick(4, 'action' || user_id || day)],
    jsonb_build_object('items', 1 + pg_temp.pick(9, 'items' || user_id || day)),
    '192.0.2.1',
    day + pg_temp.pick(600, 'minute' || user_id || day) * interval '1 minute' + interval '8 hours',
    day + interval '1 day'
from (
    select users.id as user_id, lives.left_on, day
    from users
    join lives on lives.id = 1 + (users.id - 1) / 5
    cross join lateral generate_series(
        lives.came::timestamptz + interval '1 day', least(lives.left_on, date '2025-06-30')::timestamptz, interval '1 day'
    ) as day
) as days
where
    extract(isodow from day) < 6
    and pg_temp.pick(20, 'works' || user_id || day) < case when left_on - 30 < day::date then 2 else 8 end;

insert into nps_answers (id, user_id, score, comment, answered_at, updated_at)
select
    users.id,
    users.id,
    case when left_on < '2025-07-01' then pg_temp.pick(8, 'score' || users.id) else 5 + pg_temp.pick(6, 'score' || users.id) end,
    'Says person ' || users.id,
    came + interval '45 days',
    came + interval '45 days'
from users
join lives on lives.id = 1 + (users.id - 1) / 5
where users.id % 5 = 2 and came < date '2025-05-01';
