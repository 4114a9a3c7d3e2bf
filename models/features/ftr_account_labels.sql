{% set churn = var("churn") %}
{% set begins = days_after("snapshots.as_of_date", churn["lead_days"]) %}
{% set ends = days_after("snapshots.as_of_date", churn["lead_days"] + churn["horizon_days"]) %}

-- What became of the accounts that could be judged, once their window has closed: an open window is no survivor. All labels are
-- made anew by every run, so that a fact that came late corrects the windows it lies in; no other label can change.

with

snapshots as (

    select
        account_id,
        as_of_date,
        mrr
    from {{ ref("ftr_account_snapshots") }}
    where is_eligible

),

{% if churn["definition"] == "inactivity" %}

    closed as (

        select
            account_id,
            as_of_date,
            mrr,
            {{ begins }} as begins_date,
            {{ ends }} as ends_date
        from snapshots
        where {{ ends }} <= {{ as_of_date() }}

    ),

    windows as (

        select distinct begins_date
        from closed

    ),

    -- Each day of activity belongs to the last window that had begun by then.
    calendar as (

        select
            days.calendar_date as activity_date,
            max(windows.begins_date) as begins_date
        from ({{ day_spine("(select min(begins_date) from windows)", days_after(as_of_date(), -1)) }}) as days
        inner join windows on days.calendar_date >= windows.begins_date
        group by days.calendar_date

    ),

    activity as (

        select
            days.account_id,
            calendar.begins_date,
            min(days.activity_date) as active_date
        from ({{ active_days() }}) as days
        inner join calendar on days.activity_date = calendar.activity_date
        group by days.account_id, calendar.begins_date

    ),

    accounts as (

        select distinct account_id
        from closed

    ),

    -- The first activity on or after the beginning of each window, carried back to the windows before it.
    next_activity as (

        select
            accounts.account_id,
            windows.begins_date,
            min(activity.active_date) over (
                partition by accounts.account_id order by windows.begins_date
                rows between current row and unbounded following
            ) as active_date
        from accounts
        cross join windows
        left join activity
            on
                accounts.account_id = activity.account_id
                and windows.begins_date = activity.begins_date

    ),

    labelled as (

        select
            closed.account_id,
            closed.as_of_date,
            closed.mrr,
            coalesce(next_activity.active_date >= closed.ends_date, true) as has_churned,
            closed.ends_date as lost_date
        from closed
        inner join next_activity
            on
                closed.account_id = next_activity.account_id
                and closed.begins_date = next_activity.begins_date

    ),

{% else %}

    closed as (

        select
            account_id,
            as_of_date,
            mrr
        from snapshots
        where
            {{ days_after("as_of_date", churn["lead_days"] + churn["horizon_days"] + churn["grace_days"]) }}
            <= {{ as_of_date() }}

    ),

    movements as (

        select
            account_id,
            movement_date,
            movement,
            mrr_after,
            lead(movement_date) over (partition by account_id order by movement_date) as next_movement_date
        from {{ ref("mrr_movements") }}

    ),

    -- Who comes back within the grace period has not been away.
    losses as (

        select
            account_id,
            movement_date as lost_date,
            movement
        from movements
        where
            mrr_after = 0
            and (
                next_movement_date is null
                or {{ days_between("movement_date", "next_movement_date") }} > {{ churn["grace_days"] }}
            )

    ),

    first_losses as (

        select
            snapshots.account_id,
            snapshots.as_of_date,
            min(losses.lost_date) as lost_date,
            {{ first_by("losses.movement", "losses.lost_date") }} as movement
        from closed as snapshots
        inner join losses
            on
                snapshots.account_id = losses.account_id
                and snapshots.as_of_date <= losses.lost_date
                and {{ ends }} > losses.lost_date
        group by snapshots.account_id, snapshots.as_of_date

    ),

    -- Neither an end as agreed nor a loss too near to be prevented says whether the account would have stayed.
    labelled as (

        select
            snapshots.account_id,
            snapshots.as_of_date,
            snapshots.mrr,
            first_losses.lost_date,
            case
                when first_losses.lost_date is null then false
                when first_losses.movement = 'completion' or first_losses.lost_date < {{ begins }} then null
                else true
            end as has_churned
        from closed as snapshots
        left join first_losses
            on
                snapshots.account_id = first_losses.account_id
                and snapshots.as_of_date = first_losses.as_of_date

    ),

{% endif %}

final as (

    select
        account_id,
        as_of_date,
        has_churned,
        case when has_churned then lost_date end as lost_date,
        {{ money("case when has_churned then mrr when not has_churned then 0 end") }} as mrr_lost
    from labelled

)

select * from final
