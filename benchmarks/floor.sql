-- The yardstick: what a skilled engineer writes by hand for one company, from the vendors' files to the twelve marts, as one
-- DuckDB script. It knows this company's sources and nothing else: no increments, no ledger, no quarantine, no history, no tests.
-- The pipeline's marts must equal these tables, and its time is measured against this script's.
--
-- Who runs it says where the files are (`set variable data = '<folder>'`), how much memory and how many threads it may use.

set timezone = 'UTC';
set preserve_insertion_order = false;
create schema marts;
set variable latest = now()::timestamp + interval 2 days;
set variable latest_planned = now()::timestamp + interval 50 years;

create temp macro utc(given) as try_cast(given as timestamptz)::timestamp;
create temp macro from_epoch(seconds) as make_timestamp(seconds * 1000000);
-- Whether a value was given that cannot be read; whether a moment is one at which nothing can have happened, or be planned.
create temp macro lost(given, typed) as given is not null and typed is null;
create temp macro impossible(moment) as
    coalesce(moment < timestamp '1980-01-01' or moment > getvariable('latest'), false);
create temp macro unplannable(moment) as
    coalesce(moment < timestamp '1980-01-01' or moment > getvariable('latest_planned'), false);
create temp macro pct(part, whole) as case when whole <> 0 then 100.0 * (part::double / whole::double) end;
create temp macro days_between(earlier, later) as date_diff('day', earlier::date, later::date);

-- 1. What the vendors hold: typed, without the rows that break the contract, the latest version of each row -----------------

create temp table crm_companies as
select
    id, name, domain, industry, segment, country, try_cast(numberofemployees as bigint) as employees,
    parent_company_id, companies.owner_id, owners.owner_name, owners.email as owner_email, utc(createdate) as created_at, merged_into_id
from read_csv(getvariable('data') || '/crm/companies/*.csv', all_varchar = true, filename = true) as companies
left join (
    select id as owner_key, any_value(email) as email, any_value(first_name || ' ' || last_name) as owner_name
    from read_csv(getvariable('data') || '/crm/owners/*.csv', all_varchar = true)
    group by id
) as owners on owners.owner_key = companies.owner_id
where
    id is not null
    and utc(createdate) is not null
    and not lost(numberofemployees, try_cast(numberofemployees as bigint))
    and not lost(hs_lastmodifieddate, utc(hs_lastmodifieddate))
    and coalesce(try_cast(numberofemployees as bigint) >= 0, true)
    and not impossible(utc(createdate))
    and not impossible(utc(hs_lastmodifieddate))
qualify row_number() over (partition by id order by utc(hs_lastmodifieddate) desc nulls last, filename desc) = 1;

create temp table crm_contacts as
select
    id, company_id, email, lower(role) as role, utc(createdate) as created_at, try_cast(unsubscribed as boolean) as is_unsubscribed,
    utc(left_company_date) as left_at
from read_csv(getvariable('data') || '/crm/contacts/*.csv', all_varchar = true, filename = true)
where
    id is not null
    and company_id in (select id from crm_companies)
    and not lost(createdate, utc(createdate))
    and not lost(unsubscribed, try_cast(unsubscribed as boolean))
    and not lost(left_company_date, utc(left_company_date))
    and not lost(hs_lastmodifieddate, utc(hs_lastmodifieddate))
    and not impossible(utc(createdate))
    and not impossible(utc(left_company_date))
    and not impossible(utc(hs_lastmodifieddate))
qualify row_number() over (partition by id order by utc(hs_lastmodifieddate) desc nulls last, filename desc) = 1;

create temp table crm_engagements as
select
    id, company_id, lower(type) as channel, lower(direction) as direction, epoch_ms(try_cast(timestamp as bigint)) as occurred_at
from read_csv(getvariable('data') || '/crm/engagements/*.csv', all_varchar = true, filename = true)
where
    id is not null
    and company_id in (select id from crm_companies)
    and try_cast(timestamp as bigint) is not null
    and not impossible(epoch_ms(try_cast(timestamp as bigint)))
qualify row_number() over (partition by id order by filename desc, timestamp desc) = 1;

create temp table billing_customers as
select id, name, email_domain as domain, from_epoch(created) as created_at, metadata ->> 'crm_id' as crm_id
from read_json(
    getvariable('data') || '/billing/customers/*.jsonl.gz', format = 'newline_delimited', filename = true,
    columns = {
        id: 'varchar', name: 'varchar', email_domain: 'varchar', created: 'bigint', metadata: 'json', updated: 'bigint'
    }
)
where id is not null and created is not null and not impossible(from_epoch(created)) and not impossible(from_epoch(updated))
qualify row_number() over (partition by id order by updated desc nulls last, filename desc) = 1;

create temp table billing_subscriptions as
select
    id, customer, product, plan, "interval" as billing_interval, quantity as seats, (mrr_cents / 100)::decimal(18, 2) as mrr,
    from_epoch("start") as started_at, from_epoch("end") as ended_at, end_reason,
    from_epoch(current_period_end) as renews_at, coalesce(trial, false) as is_trial
from read_json(
    getvariable('data') || '/billing/subscriptions/*.jsonl.gz', format = 'newline_delimited', filename = true,
    columns = {
        id: 'varchar', customer: 'varchar', product: 'varchar', plan: 'varchar', "interval": 'varchar', quantity: 'bigint',
        mrr_cents: 'bigint', "start": 'bigint', "end": 'bigint', end_reason: 'varchar', current_period_end: 'bigint',
        trial: 'boolean', updated: 'bigint'
    }
)
where
    id is not null
    and customer in (select id from billing_customers)
    and mrr_cents >= 0
    and "start" is not null
    and coalesce(quantity >= 0, true)
    and coalesce("end" >= "start", true)
    and not unplannable(from_epoch("start"))
    and not unplannable(from_epoch("end"))
    and not unplannable(from_epoch(current_period_end))
    and not impossible(from_epoch(updated))
qualify row_number() over (partition by id order by updated desc nulls last, filename desc) = 1;

create temp table billing_invoices as
select
    id, customer, from_epoch(created) as issued_at, from_epoch(due_date) as due_at, from_epoch(paid_at) as paid_at,
    (amount_cents / 100)::decimal(18, 2) as amount, status,
    greatest(attempt_count - case when status = 'paid' then 1 else 0 end, 0) as failed_payments
from read_json(
    getvariable('data') || '/billing/invoices/*.jsonl.gz', format = 'newline_delimited', filename = true,
    columns = {
        id: 'varchar', customer: 'varchar', created: 'bigint', due_date: 'bigint', paid_at: 'bigint', amount_cents: 'bigint',
        status: 'varchar', attempt_count: 'bigint', updated: 'bigint'
    }
)
where
    id is not null
    and customer in (select id from billing_customers)
    and created is not null
    and amount_cents is not null
    and not impossible(from_epoch(created))
    and not unplannable(from_epoch(due_date))
    and not impossible(from_epoch(paid_at))
    and not impossible(from_epoch(updated))
qualify row_number() over (partition by id order by updated desc nulls last, filename desc) = 1;

create temp table support_organizations as
select id, name, domain_names as domain, external_id as crm_id, utc(created_at) as created_at
from read_csv(getvariable('data') || '/support/organizations/*.csv.zst', all_varchar = true, filename = true)
where
    id is not null
    and utc(created_at) is not null
    and not lost(updated_at, utc(updated_at))
    and not impossible(utc(created_at))
    and not impossible(utc(updated_at))
qualify row_number() over (partition by id order by utc(updated_at) desc nulls last, filename desc) = 1;

create temp table support_tickets as
select
    id, organization_id, utc(created_at) as opened_at, utc(first_reply_at) as first_response_at, utc(solved_at) as solved_at,
    lower(priority) as priority, lower(status) as status, try_cast(satisfaction_score as double) as csat,
    try_cast(reopens as bigint) as reopens, subject
from read_csv(getvariable('data') || '/support/tickets/*.csv.zst', all_varchar = true, filename = true)
where
    id is not null
    and organization_id in (select id from support_organizations)
    and utc(created_at) is not null
    and not lost(first_reply_at, utc(first_reply_at))
    and not lost(solved_at, utc(solved_at))
    and not lost(updated_at, utc(updated_at))
    and not lost(satisfaction_score, try_cast(satisfaction_score as double))
    and not lost(reopens, try_cast(reopens as bigint))
    and coalesce(try_cast(satisfaction_score as double) between 1 and 5, true)
    and coalesce(try_cast(reopens as bigint) >= 0, true)
    and coalesce(utc(first_reply_at) >= utc(created_at), true)
    and coalesce(utc(solved_at) >= utc(created_at), true)
    and not impossible(utc(created_at))
    and not impossible(utc(first_reply_at))
    and not impossible(utc(solved_at))
    and not impossible(utc(updated_at))
qualify row_number() over (partition by id order by utc(updated_at) desc nulls last, filename desc) = 1;

create temp table product_workspaces as
select id, name, domain, crm_id, created_at
from read_parquet(getvariable('data') || '/product/workspaces/*.parquet', filename = true)
where id is not null and created_at is not null and not impossible(created_at) and not impossible(updated_at)
qualify row_number() over (partition by id order by updated_at desc nulls last, filename desc) = 1;

create temp table product_surveys as
select id, workspace_id, lower(kind) as kind, score, answered_at
from read_parquet(getvariable('data') || '/product/surveys/*.parquet', filename = true)
where
    id is not null
    and workspace_id in (select id from product_workspaces)
    and score between 0 and 10
    and answered_at is not null
    and not impossible(answered_at)
qualify row_number() over (partition by id order by filename desc, answered_at desc, score desc) = 1;

create temp macro valid_events() as table
    select *
    from read_parquet(getvariable('data') || '/product/events/*.parquet', filename = true)
    where
        event_id is not null
        and event is not null
        and timestamp is not null
        and workspace_id in (select id from product_workspaces)
        and not impossible(timestamp)
        and not coalesce(isinf(quantity), false);

-- Now is the midnight after the last fact.
set variable as_of = (
    select date_trunc('day', max(newest)) + interval 1 day
    from (
        select max(timestamp) as newest from valid_events()
        union all select max(started_at) from billing_subscriptions where started_at <= now()::timestamp
        union all select max(issued_at) from billing_invoices
        union all select max(opened_at) from support_tickets
        union all select max(answered_at) from product_surveys
        union all select max(occurred_at) from crm_engagements
    )
);

-- 2. Which records are one company -----------------------------------------------------------------------------------------

create temp macro plain_domain(domain) as nullif(
    regexp_replace(
        regexp_replace(lower(trim(domain)), '^[a-z]+://|^.*@', '', 'g'), '^www[.]|[/:?#,; ].*$|[.]+$', '', 'g'
    ), ''
);
create temp macro plain_name(name) as nullif(
    regexp_replace(
        trim(regexp_replace(replace(replace(lower(name), '.', ''), '''', ''), '[^\p{L}\p{N}]+', ' ', 'g')),
        '( (inc|incorporated|corp|corporation|co|company|llc|llp|lp|ltd|limited|plc|pty|pte|pvt|gmbh|ag|kg|kgaa|ug|se|sa|sas|sarl'
        || '|srl|spa|sl|bv|nv|ab|as|aps|oy|oyj|kft|zrt|doo|sro|spzoo|kk|ltda|eirl|eurl|sprl|snc|uab|sia))+$', '', 'g'
    ), ''
);

create temp table records as
with listed as (
    select
        'crm' as source, 1 as trust, id, name, domain, industry, segment, country, employees, parent_company_id, owner_id,
        owner_name, owner_email, created_at, null as crm_id, merged_into_id
    from crm_companies
    union all by name select 'billing' as source, 2 as trust, * from billing_customers
    union all by name select 'support' as source, 3 as trust, * from support_organizations
    union all by name select 'product' as source, 4 as trust, * from product_workspaces
),

records as (
    select *, plain_name(name) as plain_name, plain_domain(domain) as plain_domain
    from listed
    where created_at < getvariable('as_of')
),

merges as (
    select gone.source, gone.id, kept.id as survivor
    from records as gone
    inner join records as kept on gone.source = kept.source and gone.merged_into_id = kept.id and gone.id <> kept.id
),

survivors as (
    select a.source, a.id, coalesce(c.survivor, b.survivor, a.survivor) as survivor
    from merges as a
    left join merges as b on a.source = b.source and a.survivor = b.id
    left join merges as c on b.source = c.source and b.survivor = c.id
)

select
    records.*,
    survivors.id is not null as is_merged,
    coalesce(survivors.survivor, records.id) as survivor
from records
left join (
    select * from survivors where not exists (
        select 1 from merges where merges.source = survivors.source and merges.id = survivors.survivor
    )
) as survivors on records.source = survivors.source and records.id = survivors.id;

create temp table unique_domains as
select source, trust, plain_domain, any_value(id) as id
from records
where
    not is_merged
    and plain_domain not in (
        'gmail.com', 'googlemail.com', 'outlook.com', 'hotmail.com', 'hotmail.co.uk', 'hotmail.fr', 'live.com', 'msn.com',
        'yahoo.com', 'yahoo.co.uk', 'yahoo.co.jp', 'yahoo.fr', 'yahoo.de', 'ymail.com', 'icloud.com', 'me.com', 'mac.com', 'aol.com',
        'proton.me', 'protonmail.com', 'gmx.de', 'gmx.net', 'gmx.com', 'web.de', 't-online.de', 'mail.com', 'mail.ru', 'yandex.ru',
        'yandex.com', 'qq.com', '163.com', '126.com', 'zoho.com', 'fastmail.com', 'orange.fr', 'free.fr', 'laposte.net', 'libero.it',
        'comcast.net', 'verizon.net', 'btinternet.com'
    )
group by all
having count(*) = 1;

create temp table unique_names as
select source, trust, plain_name, any_value(id) as id
from records
where not is_merged and plain_name is not null
group by all
having count(*) = 1;

create temp table matches as
with candidates as (
    select later.source, later.id, earlier.source as to_source, earlier.survivor as to_id, earlier.trust, 1 as rule
    from records as later
    inner join records as earlier on later.crm_id = earlier.id and later.trust > earlier.trust
    where not later.is_merged
    union all
    select later.source, later.id, earlier.source, earlier.id, earlier.trust, 2
    from unique_domains as later
    inner join unique_domains as earlier on later.plain_domain = earlier.plain_domain and later.trust > earlier.trust
    union all
    select later.source, later.id, earlier.source, earlier.id, earlier.trust, 3
    from unique_names as later
    inner join unique_names as earlier on later.plain_name = earlier.plain_name and later.trust > earlier.trust
)

select * from candidates
qualify row_number() over (partition by source, id order by rule, trust, to_id) = 1;

-- A match leads to an earlier source each time, so three steps reach the end.
create table marts.account_sources as
with steps as (
    select
        records.*,
        one.rule,
        coalesce(three.to_source, two.to_source, one.to_source, records.source) as root_source,
        coalesce(three.to_id, two.to_id, one.to_id, records.survivor) as root_id
    from records
    left join matches as one on records.source = one.source and records.survivor = one.id
    left join matches as two on one.to_source = two.source and one.to_id = two.id
    left join matches as three on two.to_source = three.source and two.to_id = three.id
)

select
    source,
    id as source_account_id,
    case root_source when 'crm' then root_id else root_source || ':' || root_id end as account_id,
    case
        when source = 'crm' then 'primary'
        when rule = 1 then 'id'
        when rule = 2 then 'domain'
        when rule = 3 then 'name'
        else 'unmatched'
    end as match_rule,
    is_merged,
    false as is_derived,
    source = 'crm' as is_primary_source
from steps;

create temp table companies as
with members as (
    select
        records.*,
        owned.account_id,
        array_position(['primary', 'id', 'domain', 'name', 'unmatched'], owned.match_rule) as weakness,
        owned.match_rule,
        row_number() over (
            partition by owned.account_id order by records.is_merged, records.trust, records.created_at, records.id
        ) as place
    from records
    inner join marts.account_sources as owned on records.source = owned.source and records.id = owned.source_account_id
),

companies as (
    select
        account_id,
        arg_min(name, place) as account_name,
        arg_min(domain, place) as domain,
        arg_min(industry, place) as industry,
        arg_min(segment, place) as segment,
        arg_min(country, place) as country,
        arg_min(employees, place) as employees,
        arg_min(owner_id, place) as owner_id,
        arg_min(owner_name, place) as owner_name,
        arg_min(owner_email, place) as owner_email,
        arg_min(parent_company_id, place) as parent_company_id,
        arg_min(source, place) as leading_source,
        arg_min(id, place) filter (source = 'crm') as crm_account_id,
        arg_max(match_rule, weakness) as match_rule,
        count(*) as account_sources,
        string_agg(distinct source, ', ' order by source) as sources,
        min(created_at) as created_at,
        bool_or(source = 'crm') as in_crm,
        bool_or(source = 'billing') as in_billing,
        bool_or(source = 'support') as in_support,
        bool_or(source = 'product') as in_product
    from members
    group by account_id
)

select companies.*, nullif(parent.account_id, companies.account_id) as parent_account_id
from companies
left join marts.account_sources as parent
    on parent.source = 'crm' and companies.parent_company_id = parent.source_account_id;

create temp macro accounts_of(vendor) as table
    select source_account_id as id, account_id from marts.account_sources where source = vendor;

-- 3. Facts as they stood -----------------------------------------------------------------------------------------------------

create table marts.contacts as
select
    'crm' as source, 'contacts' as stream, contacts.id as contact_id, account_id, email, role,
    coalesce(role like '%champion%', false) as is_champion, created_at, is_unsubscribed,
    case when left_at < getvariable('as_of') then left_at end as left_at,
    not coalesce(left_at < getvariable('as_of'), false) as is_active
from crm_contacts as contacts
inner join accounts_of('crm') as company on contacts.company_id = company.id
where coalesce(created_at < getvariable('as_of'), true);

create table marts.subscriptions as
select
    'billing' as source, 'subscriptions' as stream, periods.id as subscription_id, account_id, product, plan, seats,
    (case when is_trial then 0 else mrr end)::decimal(18, 2) as mrr,
    (case when is_trial then 0 else mrr end * 12)::decimal(18, 2) as arr,
    mrr as original_mrr, 'USD' as currency, 1::decimal(18, 8) as exchange_rate,
    started_at,
    case when ended_at < getvariable('as_of') then ended_at end as ended_at,
    case when ended_at < getvariable('as_of') then end_reason end as end_reason,
    not coalesce(ended_at < getvariable('as_of'), false) as is_running,
    is_trial, renews_at, billing_interval
from billing_subscriptions as periods
inner join accounts_of('billing') as customer on periods.customer = customer.id
where started_at < getvariable('as_of');

create table marts.invoices as
with standing as (
    select
        bills.id as invoice_id, account_id, issued_at, due_at,
        case when paid_at < getvariable('as_of') then paid_at end as paid_at,
        amount, amount as original_amount, 'USD' as currency, 1::decimal(18, 8) as exchange_rate,
        case when paid_at >= getvariable('as_of') then 'open' else lower(status) end as status,
        failed_payments
    from billing_invoices as bills
    inner join accounts_of('billing') as customer on bills.customer = customer.id
    where issued_at < getvariable('as_of')
),

judged as (
    select
        *,
        paid_at is null and amount > 0
        and coalesce(status, 'open') not in ('paid', 'void', 'uncollectible') as is_unpaid
    from standing
)

select
    'billing' as source, 'invoices' as stream, *,
    is_unpaid and coalesce(due_at < getvariable('as_of'), false) as is_overdue,
    case
        when due_at is null then null
        when paid_at > due_at then days_between(due_at, paid_at)
        when paid_at is not null then 0
        when is_unpaid and due_at < getvariable('as_of') then days_between(due_at, getvariable('as_of'))
    end as late_days
from judged;

create table marts.tickets as
with standing as (
    select
        tickets.id as ticket_id, account_id, opened_at,
        case when first_response_at < getvariable('as_of') then first_response_at end as first_response_at,
        case when solved_at < getvariable('as_of') then solved_at end as solved_at,
        priority,
        case when solved_at >= getvariable('as_of') then 'open' else status end as status,
        case when coalesce(solved_at < getvariable('as_of'), true) then csat end as csat,
        reopens, subject
    from support_tickets as tickets
    inner join accounts_of('support') as organization on tickets.organization_id = organization.id
    where opened_at < getvariable('as_of')
)

select
    'support' as source, 'tickets' as stream, * exclude (subject),
    solved_at is null and coalesce(status, 'open') not in ('solved', 'closed') as is_open,
    date_diff('minute', opened_at, first_response_at)::double / 60 as first_response_hours,
    date_diff('minute', opened_at, solved_at)::double / 60 as solution_hours,
    subject
from standing;

create temp table surveys as
select surveys.id, account_id, kind, score, answered_at
from product_surveys as surveys
inner join accounts_of('product') as workspace on surveys.workspace_id = workspace.id
where answered_at < getvariable('as_of');

create temp table touches as
select touches.id, account_id, channel, direction, occurred_at
from crm_engagements as touches
inner join accounts_of('crm') as company on touches.company_id = company.id
where occurred_at < getvariable('as_of');

-- 4. Usage: every event once, read once ---------------------------------------------------------------------------------------

-- Few events come twice: those are set apart by id, so that ten million need no sort.
create temp table repeated_events as
select event_id from valid_events() group by event_id having count(*) > 1;

create temp table events as
with once as (
    select workspace_id, user_id, event, timestamp, quantity
    from valid_events()
    where event_id not in (select event_id from repeated_events)
    union all
    select workspace_id, user_id, event, timestamp, quantity
    from (
        select * from valid_events()
        where event_id in (select event_id from repeated_events)
        qualify row_number() over (partition by event_id order by filename desc, timestamp desc) = 1
    )
)

select account_id, user_id, event, timestamp, nullif(quantity, 'nan'::double) as quantity
from once
inner join accounts_of('product') as workspace on once.workspace_id = workspace.id
where timestamp < getvariable('as_of');

create table marts.account_days as
with user_days as (
    select
        account_id, timestamp::date as activity_date, user_id, count(*) as events, sum(quantity) as quantity,
        max(timestamp) as last_event_at
    from events
    group by all
)

select
    account_id, activity_date, sum(events)::double as events, count(user_id) as active_users, round(sum(quantity), 6) as quantity,
    max(last_event_at) as last_event_at
from user_days
group by account_id, activity_date;

create temp table first_uses as
select account_id, event, min(timestamp) as first_used_at
from events
group by all;

create temp table recent_usage as
with recent as (
    select account_id, user_id, event, timestamp, timestamp >= getvariable('as_of') - interval 28 days as is_now
    from events
    where timestamp >= getvariable('as_of') - interval 56 days
),

users as (
    select account_id, user_id, count(*) filter (is_now) as now_events, count(*) filter (not is_now) as before_events
    from recent
    group by all
),

by_users as (
    select
        account_id, sum(now_events)::bigint as events_28d, sum(before_events)::bigint as events_prev_28d,
        count(user_id) filter (now_events > 0) as active_users_28d,
        count(user_id) filter (before_events > 0) as active_users_prev_28d
    from users
    group by account_id
),

by_features as (
    select account_id, count(*) as features_used_28d
    from (select distinct account_id, event from recent where is_now)
    group by account_id
),

by_days as (
    select
        account_id, count(*) filter (activity_date >= getvariable('as_of')::date - 28) as active_days_28d,
        max(last_event_at) as last_seen_at
    from marts.account_days
    group by account_id
),

ever as (
    select account_id, count(*) as features_used_ever from first_uses group by account_id
)

select *
from by_days
left join by_users using (account_id)
left join by_features using (account_id)
left join ever using (account_id);

-- 5. Money month by month -----------------------------------------------------------------------------------------------------

create table marts.mrr_movements as
with steps as (
    select account_id, started_at::date as movement_date, mrr as delta, 0 as ends, 0 as agreed_ends
    from marts.subscriptions
    where mrr > 0
    union all
    select account_id, ended_at::date, -mrr, 1, coalesce(end_reason in ('completed', 'migrated'), false)::int
    from marts.subscriptions
    where mrr > 0 and ended_at is not null
),

days as (
    select account_id, movement_date, sum(delta) as delta, sum(ends) as ends, sum(agreed_ends) as agreed_ends
    from steps
    group by all
    having sum(delta) <> 0
),

running as (
    select *, sum(delta) over past as after, row_number() over past as nth
    from days
    window past as (partition by account_id order by movement_date)
)

select
    account_id, movement_date,
    case
        when nth = 1 then 'new'
        when after = delta then 'reactivation'
        when after = 0 and ends = agreed_ends then 'completion'
        when after = 0 then 'churn'
        when delta > 0 then 'expansion'
        else 'contraction'
    end as movement,
    delta::decimal(18, 2) as mrr_delta,
    (after - delta)::decimal(18, 2) as mrr_before,
    after::decimal(18, 2) as mrr_after
from running;

set variable last_month = date_trunc('month', getvariable('as_of') - interval 1 day)::date;

create table marts.account_months as
with months as (
    select
        account_id, date_trunc('month', movement_date)::date as month,
        coalesce(sum(mrr_delta) filter (movement = 'new'), 0) as new,
        coalesce(sum(mrr_delta) filter (movement = 'expansion'), 0) as expansion,
        coalesce(sum(mrr_delta) filter (movement = 'contraction'), 0) as contraction,
        coalesce(sum(mrr_delta) filter (movement = 'churn'), 0) as churn,
        coalesce(sum(mrr_delta) filter (movement = 'completion'), 0) as completion,
        coalesce(sum(mrr_delta) filter (movement = 'reactivation'), 0) as reactivation,
        sum(mrr_delta) as net,
        arg_max(mrr_after, movement_date) as last,
        arg_max(movement, movement_date) filter (movement in ('churn', 'completion')) as last_loss
    from marts.mrr_movements
    group by all
),

followed as (
    select *, lead(month) over (partition by account_id order by month) as next_month
    from months
),

-- A month with a movement, then each month in which there is still MRR, up to the next movement.
filled as (
    select
        * exclude (month), month as moved_month,
        unnest(generate_series(
            month,
            case when last > 0 then coalesce(next_month - interval 1 month, getvariable('last_month')) else month end,
            interval 1 month
        ))::date as month
    from followed
),

flows as (
    select
        account_id, month, last,
        month = moved_month as moved,
        case when moved then last - net else last end as start,
        case when moved then new else 0 end as new,
        case when moved then expansion else 0 end as expansion,
        case when moved then contraction else 0 end as contraction,
        case when moved then churn else 0 end as churn,
        case when moved then completion else 0 end as completion,
        case when moved then reactivation else 0 end as reactivation,
        case when moved then last_loss end as last_loss
    from filled
)

select
    account_id, month as month_start_date, start::decimal(18, 2) as start_mrr, new::decimal(18, 2) as new_mrr,
    expansion::decimal(18, 2) as expansion_mrr, contraction::decimal(18, 2) as contraction_mrr,
    churn::decimal(18, 2) as churn_mrr, completion::decimal(18, 2) as completion_mrr,
    reactivation::decimal(18, 2) as reactivation_mrr, last::decimal(18, 2) as end_mrr,
    start = 0 and last > 0 and new > 0 as is_logo_new,
    start = 0 and last > 0 and new <= 0 as is_logo_reactivated,
    start > 0 and last = 0 and last_loss = 'churn' as is_logo_churned,
    start > 0 and last = 0 and last_loss = 'completion' as is_logo_completed
from flows;

create table marts.months as
with money as (
    select
        month_start_date, sum(start_mrr) as start, sum(new_mrr) as new, sum(expansion_mrr) as expansion,
        sum(contraction_mrr) as contraction, sum(churn_mrr) as churn, sum(completion_mrr) as completion,
        sum(reactivation_mrr) as reactivation, sum(end_mrr) as last,
        sum(start_mrr) filter (start_mrr > 0 and not is_logo_completed) as retainable,
        sum(end_mrr) filter (start_mrr > 0) as retained,
        sum(least(start_mrr, end_mrr)) as retained_gross,
        count(*) filter (start_mrr > 0) as at_start,
        count(*) filter (is_logo_new) as gained,
        count(*) filter (is_logo_reactivated) as reactivated,
        count(*) filter (is_logo_churned) as churned,
        count(*) filter (is_logo_completed) as completed,
        count(*) filter (end_mrr > 0) as at_end
    from marts.account_months
    group by month_start_date
),

bills as (
    select
        date_trunc('month', issued_at)::date as month_start_date, sum(amount) as invoiced_amount,
        count(distinct account_id) as invoiced_accounts
    from marts.invoices
    where coalesce(status, 'open') <> 'void'
    group by all
),

usage as (
    select date_trunc('month', activity_date)::date as month_start_date, count(distinct account_id) as active_accounts
    from marts.account_days
    group by all
),

months as (
    select unnest(generate_series(min(month_start_date), getvariable('last_month'), interval 1 month))::date as month_start_date
    from (
        select month_start_date from money
        union all select month_start_date from bills
        union all select month_start_date from usage
    )
)

select
    month_start_date,
    month_start_date + interval 1 month <= getvariable('as_of') as is_complete,
    coalesce(start, 0)::decimal(18, 2) as start_mrr, coalesce(new, 0)::decimal(18, 2) as new_mrr,
    coalesce(expansion, 0)::decimal(18, 2) as expansion_mrr, coalesce(contraction, 0)::decimal(18, 2) as contraction_mrr,
    coalesce(churn, 0)::decimal(18, 2) as churn_mrr, coalesce(completion, 0)::decimal(18, 2) as completion_mrr,
    coalesce(reactivation, 0)::decimal(18, 2) as reactivation_mrr, coalesce(last, 0)::decimal(18, 2) as end_mrr,
    coalesce(at_start, 0) as customers_at_start, coalesce(gained, 0) as customers_new,
    coalesce(reactivated, 0) as customers_reactivated, coalesce(churned, 0) as customers_churned,
    coalesce(completed, 0) as customers_completed, coalesce(at_end, 0) as customers_at_end,
    pct(retained, retainable) as nrr_pct, pct(retained_gross, retainable) as grr_pct,
    pct(churned, at_start - completed) as logo_churn_pct,
    coalesce(invoiced_amount, 0)::decimal(18, 2) as invoiced_amount,
    coalesce(invoiced_accounts, 0) as invoiced_accounts,
    coalesce(active_accounts, 0) as active_accounts
from months
left join money using (month_start_date)
left join bills using (month_start_date)
left join usage using (month_start_date);

-- 6. What happened, in order --------------------------------------------------------------------------------------------------

create table marts.account_timeline as
with ends as (
    select
        account_id, coalesce(product, '') as product, ended_at::date as day, bool_or(is_trial) as had_trial, min(plan) as plan,
        sum(seats) as seats
    from marts.subscriptions
    where ended_at is not null
    group by all
),

starts as (
    select distinct account_id, coalesce(product, '') as product, started_at::date as day from marts.subscriptions
),

periods as (
    select
        s.*,
        next.account_id is not null as goes_on,
        case
            when s.is_trial then 'trial_started'
            when before.account_id is null then 'subscription_started'
            when before.had_trial then 'trial_converted'
            when coalesce(before.plan, '') <> coalesce(s.plan, '') then 'plan_changed'
            when coalesce(before.seats, 0) <> coalesce(s.seats, 0) then 'seats_changed'
            else 'subscription_renewed'
        end as started_kind
    from marts.subscriptions as s
    left join ends as before
        on s.account_id = before.account_id and coalesce(s.product, '') = before.product and s.started_at::date = before.day
    left join starts as next
        on
            s.account_id = next.account_id and coalesce(s.product, '') = next.product and s.ended_at::date = next.day
            and s.started_at::date < next.day
)

select
    account_id, created_at as event_at, 'signup' as kind, leading_source as source, account_id as reference_id,
    null::varchar as title, null::decimal(18, 2) as amount
from companies
union all
select account_id, started_at, started_kind, source, subscription_id, coalesce(plan, product), mrr
from periods
union all
select
    account_id, ended_at, case when is_trial then 'trial_ended' else 'subscription_ended' end, source, subscription_id,
    coalesce(end_reason, plan, product), mrr
from periods
where ended_at is not null and not goes_on
union all
select account_id, movement_date::timestamp, 'mrr_movement', null, movement, movement, mrr_delta
from marts.mrr_movements
union all
select
    account_id, issued_at, case when amount < 0 then 'credit_note_issued' else 'invoice_issued' end, source, invoice_id, status,
    amount
from marts.invoices
union all
select
    account_id, paid_at, 'invoice_paid_late', source, invoice_id, case when failed_payments > 0 then 'after failed payments' end,
    amount
from marts.invoices
where paid_at is not null and late_days > 0
union all
select
    account_id, due_at + interval 1 day, 'invoice_overdue', source, invoice_id,
    case when failed_payments > 0 then 'after failed payments' end, amount
from marts.invoices
where late_days > 0 and due_at + interval 1 day < getvariable('as_of')
union all
select account_id, issued_at, 'payment_failed', source, invoice_id, failed_payments::varchar, amount
from marts.invoices
where failed_payments > 0
union all
select account_id, opened_at, 'ticket_opened', source, ticket_id, priority, null from marts.tickets
union all
select account_id, solved_at, 'ticket_solved', source, ticket_id, 'csat ' || csat::bigint::varchar, null
from marts.tickets
where solved_at is not null
union all
select
    account_id, answered_at, 'survey_answered', 'product', id, coalesce(kind, 'survey') || ' ' || score::bigint::varchar, null
from surveys
union all
select account_id, occurred_at, 'interaction', 'crm', id, coalesce(channel, direction), null from touches
union all
select account_id, created_at, 'contact_joined', source, contact_id, role, null from marts.contacts where created_at is not null
union all
select account_id, left_at, 'contact_left', source, contact_id, role, null from marts.contacts where left_at is not null
union all
select account_id, first_used_at, 'feature_first_used', null, event, event, null from first_uses;

-- 7. How far each source reaches, and the 360° view ---------------------------------------------------------------------------

create table marts.source_freshness as
with measured as (
    select 'crm' as source, 'contacts' as entity, count(*) as facts, max(created_at) as newest_fact_at
    from crm_contacts
    where coalesce(created_at < getvariable('as_of'), true)
    union all
    select 'billing', 'subscriptions', count(*), max(started_at) from billing_subscriptions where started_at < getvariable('as_of')
    union all
    select 'billing', 'invoices', count(*), max(issued_at) from billing_invoices where issued_at < getvariable('as_of')
    union all
    select 'support', 'tickets', count(*), max(opened_at) from support_tickets where opened_at < getvariable('as_of')
    union all
    select 'product', 'survey_responses', count(*), max(answered_at) from product_surveys where answered_at < getvariable('as_of')
    union all
    select 'crm', 'interactions', count(*), max(occurred_at) from crm_engagements where occurred_at < getvariable('as_of')
    union all
    select 'product', 'usage_events', sum(events)::bigint, max(last_event_at) from marts.account_days
    union all
    select source, 'accounts', count(*), max(created_at) from records group by source
)

select
    source, source as account_source, entity, facts::bigint as facts, newest_fact_at, now()::timestamp as newest_load_at,
    days_between(newest_fact_at, getvariable('as_of')) as newest_fact_days
from measured
where facts > 0;

create temp macro newest(family) as (select max(newest_fact_at) from marts.source_freshness where entity = family);

create table marts.accounts as
with running as (
    select
        account_id,
        arg_min(plan, row(-mrr, -epoch_us(started_at), subscription_id)) as plan,
        string_agg(distinct product, ', ' order by product) as products,
        sum(mrr) as mrr,
        sum(seats)::bigint as seats,
        count(*) filter (not is_trial) as subscriptions,
        bool_or(is_trial) as has_trial,
        min(renews_at) filter (renews_at >= getvariable('as_of')) as renews_at
    from marts.subscriptions
    where is_running
    group by account_id
),

revenue as (
    select
        account_id, min(movement_date) as customer_since_date, max(movement_date) filter (mrr_after = 0) as last_loss_date,
        arg_max(movement, movement_date) = 'completion' as left_as_agreed
    from marts.mrr_movements
    group by account_id
),

yearly as (
    select
        account_id, product, started_at::date as started, ended_at::date as ended,
        max(coalesce(ended_at::date, date '9999-12-31')) over (
            partition by account_id, product order by started_at, ended_at rows between unbounded preceding and 1 preceding
        ) as ended_before
    from marts.subscriptions
    where billing_interval = 'year' and not is_trial
),

terms as (
    select
        account_id, ended,
        max(started) filter (ended_before is null or ended_before < started) over (
            partition by account_id, product order by started rows between unbounded preceding and current row
        ) as began
    from yearly
),

anniversaries as (
    select account_id, began, date_diff('year', began, getvariable('as_of')::date) as years
    from terms
    where ended is null
),

renewals as (
    select
        account_id,
        min(days_between(getvariable('as_of'), (
            began + to_years(years + (began + to_years(years) < getvariable('as_of'))::int)
        )::timestamp)) as days_to_renewal
    from anniversaries
    group by account_id
),

-- What became of a bill is known when it is paid, or two weeks after it was issued.
standing as (
    select
        *, days_between(issued_at, getvariable('as_of')) as age, paid_at is not null as is_paid,
        amount > 0 and paid_at is null and coalesce(status, 'open') <> 'paid'
        and not (coalesce(status in ('void', 'uncollectible'), false) and days_between(issued_at, getvariable('as_of')) > 14) as is_owed,
        coalesce(due_at < getvariable('as_of'), false) as is_due
    from marts.invoices
),

bills as (
    select
        account_id,
        coalesce(sum(amount) filter (coalesce(status, 'open') <> 'void' or age <= 14), 0) as invoiced_amount,
        coalesce(sum(amount) filter (is_owed), 0) as unpaid_amount,
        coalesce(sum(amount) filter (is_owed and is_due), 0) as overdue_amount,
        coalesce(sum(failed_payments) filter (age <= 90 and (is_paid or age > 14)), 0)::bigint as failed_payments_90d,
        avg(case
            when is_paid then greatest(days_between(due_at, paid_at), 0)
            when is_owed and is_due then days_between(due_at, getvariable('as_of'))
        end::double) filter (amount > 0 and issued_at >= getvariable('as_of') - interval 365 days) as late_days_avg_365d,
        max(issued_at) filter (amount > 0) as last_invoice_at
    from standing
    group by account_id
),

first_used as (
    select account_id, days_between(min(activity_date)::timestamp, getvariable('as_of')) as used_for_days
    from marts.account_days
    group by account_id
),

support as (
    select
        account_id, count(*) filter (is_open) as tickets_open,
        count(*) filter (opened_at >= getvariable('as_of') - interval 90 days) as tickets_opened_90d,
        min(opened_at) filter (is_open) as oldest_open_ticket_at,
        avg(csat) filter (
            opened_at >= getvariable('as_of') - interval 180 days and solved_at < getvariable('as_of') - interval 3 days
        ) as csat_avg_180d
    from marts.tickets
    group by account_id
),

nps as (
    select account_id, arg_max(score, answered_at) as nps_last_score, max(answered_at) as nps_last_at
    from surveys
    where kind = 'nps'
    group by account_id
),

touched as (
    select account_id, max(occurred_at) as last_touch_at from touches group by account_id
),

people as (
    select account_id, count(*) filter (is_active) as contacts, count(*) filter (is_active and is_champion) as champions
    from marts.contacts
    group by account_id
),

joined as (
    select
        *, coalesce(mrr, 0) > 0 as is_customer, customer_since_date is not null as was_customer,
        -- Nothing where nobody measures, zero where somebody does and there is nothing.
        case when in_product then 0 end as no_usage, case when in_support then 0 end as no_tickets,
        case when in_billing then 0 end as no_money, case when in_crm then 0 end as no_people
    from companies
    left join running using (account_id)
    left join revenue using (account_id)
    left join recent_usage using (account_id)
    left join support using (account_id)
    left join nps using (account_id)
    left join bills using (account_id)
    left join touched using (account_id)
    left join people using (account_id)
    left join renewals using (account_id)
    left join first_used using (account_id)
)

select
    account_id, getvariable('as_of')::date as as_of_date, account_name, domain, industry, segment, country, employees,
    owner_id, owner_name, owner_email, parent_account_id, crm_account_id, leading_source, account_sources, sources, match_rule, false as is_derived, created_at,
    case
        when is_customer then 'customer'
        when was_customer and left_as_agreed then 'completed'
        when was_customer then 'churned'
        when has_trial then 'trial'
        else 'prospect'
    end as lifecycle_status,
    is_customer, customer_since_date,
    case when was_customer and not is_customer and not left_as_agreed then last_loss_date end as churned_date,
    days_between(customer_since_date, getvariable('as_of')) as tenure_days,
    plan, products,
    coalesce(mrr, no_money)::decimal(18, 2) as mrr, (coalesce(mrr, no_money) * 12)::decimal(18, 2) as arr,
    coalesce(subscriptions, no_money) as running_subscriptions, renews_at,
    days_to_renewal,
    -- The sandbox company sells nothing ahead.
    no_money > 0 as has_signed_renewal, null::timestamp as next_started_at, null::decimal(18, 2) as next_mrr, seats,
    pct(coalesce(active_users_28d, no_usage), seats) as seat_use_28d_pct,
    coalesce(events_28d, no_usage) as events_28d, coalesce(events_prev_28d, no_usage) as events_prev_28d,
    coalesce(active_users_28d, no_usage) as active_users_28d, coalesce(active_users_prev_28d, no_usage) as active_users_prev_28d,
    coalesce(active_days_28d, no_usage) as active_days_28d, coalesce(features_used_28d, no_usage) as features_used_28d,
    coalesce(features_used_ever, no_usage) as features_used_ever,
    case when used_for_days >= 56 then pct(coalesce(events_28d, 0) - events_prev_28d, events_prev_28d) end as events_trend_28d_pct,
    last_seen_at, days_between(last_seen_at, getvariable('as_of')) as days_since_last_seen,
    coalesce(tickets_open, no_tickets) as tickets_open, coalesce(tickets_opened_90d, no_tickets) as tickets_opened_90d,
    coalesce(days_between(oldest_open_ticket_at, getvariable('as_of')), no_tickets) as oldest_open_ticket_days, csat_avg_180d, nps_last_score, nps_last_at,
    coalesce(invoiced_amount, no_money)::decimal(18, 2) as invoiced_amount, coalesce(unpaid_amount, no_money)::decimal(18, 2) as unpaid_amount,
    coalesce(overdue_amount, no_money)::decimal(18, 2) as overdue_amount,
    coalesce(failed_payments_90d, no_money) as failed_payments_90d, late_days_avg_365d, last_invoice_at,
    last_touch_at, days_between(last_touch_at, getvariable('as_of')) as days_since_last_touch,
    coalesce(contacts, no_people) as contacts, coalesce(champions, no_people) as champions,
    coalesce(champions, no_people) > 0 as has_champion,
    in_crm as has_contact_data, in_billing as has_subscription_data, in_billing as has_invoice_data, in_product as has_usage_data,
    in_support as has_ticket_data, in_product as has_survey_data, in_crm as has_interaction_data,
    (2 * in_crm::int + 2 * in_billing::int + in_support::int + 2 * in_product::int)::double * 100 / 7 as coverage_pct,
    case when in_billing then newest('subscriptions') end as subscriptions_fresh_at,
    case when in_billing then newest('invoices') end as invoices_fresh_at,
    case when in_product then newest('usage_events') end as usage_fresh_at,
    case when in_support then newest('tickets') end as tickets_fresh_at,
    case when in_product then newest('survey_responses') end as surveys_fresh_at,
    case when in_crm then newest('interactions') end as interactions_fresh_at
from joined;
