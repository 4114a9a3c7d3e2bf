{{ config(materialized="view") }}

{% set not_churn = var("churn")["not_churn"] %}

-- Every day on which an account's MRR changed, and what the change was:
--   new           the first MRR ever
--   reactivation  MRR again after a time without any
--   expansion     more than before
--   contraction   less than before, but some left
--   churn         none left
--   completion    none left, and everything that ended that day ended as agreed (churn.not_churn): the MRR is gone, nobody was lost
-- The ledger says what happened to the money and never changes afterwards. Whether a loss counts as churn for a model (grace_days:
-- did the account come back?) is decided where labels are made, because it takes knowledge of the future.

with

-- A trial carries no MRR, and a free plan moves none.
paying_periods as (

    select
        account_id,
        mrr,
        cast(started_at as date) as started_date,
        cast(ended_at as date) as ended_date,
        coalesce(end_reason in ({% for reason in not_churn %}'{{ reason | replace("'", "''") }}'{{ ", " if not loop.last }}{% else %}''{% endfor %}), false)
            as ended_as_agreed
    from {{ ref("int_subscriptions_united") }}
    where mrr > 0

),

-- A period adds its MRR on the day it starts and takes it away on the day it ends.
steps as (

    select
        account_id,
        started_date as movement_date,
        mrr as mrr_delta,
        0 as ends,
        0 as agreed_ends
    from paying_periods

    union all

    select
        account_id,
        ended_date as movement_date,
        -mrr as mrr_delta,
        1 as ends,
        case when ended_as_agreed then 1 else 0 end as agreed_ends
    from paying_periods
    where ended_date is not null

),

-- Only the day's net counts: a change of plan ends one period and starts the next, and is one movement.
daily as (

    select
        account_id,
        movement_date,
        sum(mrr_delta) as mrr_delta,
        sum(ends) as ends,
        sum(agreed_ends) as agreed_ends
    from steps
    group by account_id, movement_date
    having sum(mrr_delta) <> 0

),

running as (

    select
        account_id,
        movement_date,
        mrr_delta,
        ends,
        agreed_ends,
        sum(mrr_delta) over (
            partition by account_id order by movement_date
            rows between unbounded preceding and current row
        ) as mrr_after,
        row_number() over (partition by account_id order by movement_date) as movement_number
    from daily

),

classified as (

    select
        account_id,
        movement_date,
        movement_number,
        case
            when movement_number = 1 then 'new'
            when mrr_after = mrr_delta then 'reactivation'
            when mrr_after = 0 and ends = agreed_ends then 'completion'
            when mrr_after = 0 then 'churn'
            when mrr_delta > 0 then 'expansion'
            else 'contraction'
        end as movement,
        {{ money("mrr_delta") }} as mrr_delta,
        {{ money("mrr_after - mrr_delta") }} as mrr_before,
        {{ money("mrr_after") }} as mrr_after
    from running

)

select * from classified
