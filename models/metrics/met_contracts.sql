-- What an account has signed, as of each date: all from the dates of its subscription periods. The next renewal is not
-- `renews_at`, which says when the contract renews as of today: it is the end of the term that was agreed when the period began,
-- or follows from the day on which the yearly term began. A contract that is signed and has not begun counts from the first run
-- that saw it: history.accounts_history keeps what each run knew, and the dates of subscriptions alone would tell who went on.

with

accounts as (

    select
        account_id,
        as_of_date,
        has_subscriptions,
        has_subscriptions_product,
        has_subscriptions_plan,
        has_subscriptions_ended_at,
        mrr
    from {{ ref("met_account_dates") }}

),

dates as (

    select * from {{ ref("met_dates") }}

),

subscriptions as (

    select * from {{ ref("int_subscriptions_united") }}

),

-- A period that starts on the day on which another of its product ended carries the term on.
periods_with_terms as (

    select
        account_id,
        coalesce(product, '') as product_key,
        cast(started_at as date) as started_date,
        cast(ended_at as date) as ended_date,
        cast(term_ends_at as date) as term_ends_date,
        coalesce(billing_interval = 'year', false) as is_yearly,
        max(coalesce(cast(ended_at as date), date '9999-12-31')) over (
            partition by account_id, coalesce(product, '')
            order by started_at, ended_at
            rows between unbounded preceding and 1 preceding
        ) as ended_before_date
    from subscriptions
    where (billing_interval = 'year' or term_ends_at is not null) and not is_trial

),

terms as (

    select
        account_id,
        started_date,
        ended_date,
        term_ends_date,
        is_yearly,
        max(case when ended_before_date is null or ended_before_date < started_date then started_date end) over (
            partition by account_id, product_key
            order by started_date
            rows between unbounded preceding and current row
        ) as term_started_date
    from periods_with_terms

),

running_terms as (

    select
        terms.account_id,
        dates.as_of_date,
        case
            when terms.term_ends_date >= dates.as_of_date then terms.term_ends_date
            when terms.is_yearly then {{ anniversary_from("terms.term_started_date", "dates.as_of_date") }}
        end as renewal_date
    from terms
    inner join dates
        on
            terms.started_date < dates.as_of_date
            and (terms.ended_date is null or terms.ended_date >= dates.as_of_date)

),

renewals as (

    select
        account_id,
        as_of_date,
        min({{ days_between("as_of_date", "renewal_date") }}) as days_to_renewal
    from running_terms
    group by account_id, as_of_date

),

signed as (

    select
        accounts.account_id,
        accounts.as_of_date,
        -- Once the next contract has begun, what was known before it says nothing any more.
        case
            when history.next_started_at is null or history.next_started_at >= accounts.as_of_date then history.has_signed_renewal
        end as has_signed_renewal,
        history.signed_renews_at
    from accounts
    inner join {{ ref("accounts_history") }} as history
        on
            accounts.account_id = history.account_id
            and accounts.as_of_date >= history.dbt_valid_from
            and (history.dbt_valid_to is null or accounts.as_of_date < history.dbt_valid_to)

),

discounts as (

    select
        subscriptions.account_id,
        dates.as_of_date,
        min(case
            when
                cast(subscriptions.discount_ends_at as date) >= dates.as_of_date
                and (subscriptions.ended_at is null or subscriptions.ended_at >= dates.as_of_date)
                then {{ days_between("dates.as_of_date", "subscriptions.discount_ends_at") }}
        end) as days_to_discount_end,
        min(case
            when
                cast(subscriptions.discount_ends_at as date) < dates.as_of_date
                and (subscriptions.ended_at is null or subscriptions.ended_at >= subscriptions.discount_ends_at)
                then {{ days_between("subscriptions.discount_ends_at", "dates.as_of_date") }}
        end) as days_since_discount_end
    from subscriptions
    inner join dates on subscriptions.started_at < dates.as_of_date
    where subscriptions.discount_ends_at is not null
    group by subscriptions.account_id, dates.as_of_date

),

running as (

    select
        subscriptions.*,
        dates.as_of_date,
        row_number() over (
            partition by subscriptions.account_id, dates.as_of_date
            order by subscriptions.mrr desc, subscriptions.started_at desc, subscriptions.subscription_id asc
        ) as importance
    from subscriptions
    inner join dates
        on
            subscriptions.started_at < dates.as_of_date
            and (subscriptions.ended_at is null or subscriptions.ended_at >= dates.as_of_date)

),

contracts as (

    select
        account_id,
        as_of_date,
        max(case when importance = 1 then plan end) as plan,
        max(case when importance = 1 then product end) as product,
        max(case when importance = 1 then billing_interval end) as billing_interval,
        sum(seats) as seats,
        {{ count_where("not is_trial") }} as running_subscriptions,
        count(distinct product) as running_products,
        max(case when is_trial then 1 else 0 end) = 1 as has_trial,
        max(started_at) as last_started_at
    from running
    group by account_id, as_of_date

),

-- The same subscriptions half a year before.
before as (

    select
        subscriptions.account_id,
        dates.as_of_date,
        sum(subscriptions.mrr) as mrr,
        sum(subscriptions.seats) as seats
    from subscriptions
    inner join dates
        on
            subscriptions.started_at < {{ days_after("dates.as_of_date", -180) }}
            and (subscriptions.ended_at is null or subscriptions.ended_at >= {{ days_after("dates.as_of_date", -180) }})
    group by subscriptions.account_id, dates.as_of_date

),

movements as (

    select
        movements.account_id,
        dates.as_of_date,
        min(movements.movement_date) as first_movement_date,
        max(case when movements.mrr_after = 0 then movements.movement_date end) as last_loss_date,
        {{ last_by("movements.movement", "movements.movement_date") }} as last_movement,
        {% set is_recent = in_last("movements.movement_date", 365) -%}
        {{ count_where("movements.movement = 'expansion' and " ~ is_recent) }} as expansions_365d,
        {{ count_where("movements.movement = 'contraction' and " ~ is_recent) }} as contractions_365d,
        {{ count_where("movements.movement = 'churn'") }} as losses_ever
    from {{ ref("int_mrr_movements_classified") }} as movements
    inner join dates on movements.movement_date < dates.as_of_date
    group by movements.account_id, dates.as_of_date

),

plan_changes as (

    select
        linked.account_id,
        dates.as_of_date,
        count(*) as plan_changes_365d
    from {{ ref("int_subscriptions_linked") }} as linked
    inner join dates on {{ in_last("linked.started_at", 365) }}
    where linked.started_kind = 'plan_changed'
    group by linked.account_id, dates.as_of_date

),

joined as (

    select
        accounts.account_id,
        accounts.as_of_date,
        accounts.has_subscriptions,
        accounts.has_subscriptions_product as knows_products,
        accounts.has_subscriptions_plan as knows_plans,
        accounts.has_subscriptions_ended_at as knows_ends,
        accounts.mrr,
        contracts.plan,
        contracts.product,
        contracts.billing_interval,
        contracts.seats,
        contracts.running_subscriptions,
        contracts.running_products,
        contracts.has_trial,
        contracts.last_started_at,
        before.mrr as mrr_before,
        before.seats as seats_before,
        movements.first_movement_date,
        movements.last_loss_date,
        movements.last_movement,
        movements.expansions_365d,
        movements.contractions_365d,
        movements.losses_ever,
        plan_changes.plan_changes_365d,
        signed.has_signed_renewal,
        case
            when signed.has_signed_renewal then {{ days_between("accounts.as_of_date", "signed.signed_renews_at") }}
            else renewals.days_to_renewal
        end as days_to_renewal,
        discounts.days_to_discount_end,
        discounts.days_since_discount_end
    from accounts
    left join contracts
        on
            accounts.account_id = contracts.account_id
            and accounts.as_of_date = contracts.as_of_date
    left join before
        on
            accounts.account_id = before.account_id
            and accounts.as_of_date = before.as_of_date
    left join movements
        on
            accounts.account_id = movements.account_id
            and accounts.as_of_date = movements.as_of_date
    left join plan_changes
        on
            accounts.account_id = plan_changes.account_id
            and accounts.as_of_date = plan_changes.as_of_date
    left join renewals
        on
            accounts.account_id = renewals.account_id
            and accounts.as_of_date = renewals.as_of_date
    left join signed
        on
            accounts.account_id = signed.account_id
            and accounts.as_of_date = signed.as_of_date
    left join discounts
        on
            accounts.account_id = discounts.account_id
            and accounts.as_of_date = discounts.as_of_date

),

final as (

    select
        account_id,
        as_of_date,
        plan,
        product,
        billing_interval,
        cast(seats as bigint) as seats,
        {% for count, needs in {
            "running_subscriptions": none,
            "running_products": "knows_products",
            "expansions_365d": none,
            "contractions_365d": "knows_ends",
            "plan_changes_365d": "knows_plans and knows_ends",
            "losses_ever": "knows_ends",
        }.items() -%}
            cast({{ measured(count, "has_subscriptions", needs) }} as bigint) as {{ count }},
        {% endfor -%}
        {{ change_pct("mrr", "mrr_before") }} as mrr_change_180d_pct,
        {{ change_pct("seats", "seats_before") }} as seats_change_180d_pct,
        {{ change_pct("mrr / nullif(seats, 0)", "mrr_before / nullif(seats_before, 0)") }} as price_change_180d_pct,
        cast(days_to_renewal as bigint) as days_to_renewal,
        has_signed_renewal,
        cast(days_to_discount_end as bigint) as days_to_discount_end,
        cast(days_since_discount_end as bigint) as days_since_discount_end,
        cast({{ days_between("last_started_at", "as_of_date") }} as bigint) as days_since_contract_change,
        coalesce(has_trial, false) as has_trial,
        first_movement_date,
        last_loss_date,
        last_movement
    from joined

)

select * from final
