-- Who knows whom, and what they said, as of each date: people, touches and survey answers.

with

accounts as (

    select
        account_id,
        as_of_date,
        has_contacts,
        has_contacts_role,
        has_contacts_left_at,
        has_interactions,
        has_interactions_direction,
        has_interactions_channel
    from {{ ref("met_account_dates") }}

),

dates as (

    select * from {{ ref("met_dates") }}

),

-- That somebody unsubscribed has no moment: it is known on the day of a run, and of no day before.
contacts as (

    select
        contacts.account_id,
        dates.as_of_date,
        contacts.is_champion,
        contacts.left_at is null or contacts.left_at >= dates.as_of_date as is_active,
        case when contacts.left_at < dates.as_of_date then {{ days_between("contacts.left_at", "dates.as_of_date") }} end
            as left_days_ago,
        {% if is_replay() -%}
            cast(null as boolean) as is_unsubscribed
        {%- else -%}
            case when dates.is_scoring_date then contacts.is_unsubscribed end as is_unsubscribed
        {%- endif %}
    from {{ ref("int_contacts_united") }} as contacts
    inner join dates on contacts.created_at is null or contacts.created_at < dates.as_of_date

),

people as (

    select
        account_id,
        as_of_date,
        {{ count_where("is_active") }} as contacts,
        {{ count_where("is_active and is_champion") }} as champions,
        {{ count_where("is_champion and left_days_ago <= 180") }} as champions_left_180d,
        {{ count_where("left_days_ago <= 90") }} as contacts_left_90d,
        {{ pct(count_where("is_active and is_unsubscribed"), count_where("is_active and is_unsubscribed is not null")) }}
            as unsubscribed_pct
    from contacts
    group by account_id, as_of_date

),

interactions as (

    select
        account_id,
        occurred_at,
        direction,
        channel,
        lead(occurred_at) over (partition by account_id order by occurred_at) as next_occurred_at
    from {{ ref("int_interactions_united") }}

),

last_touches as (

    select
        interactions.account_id,
        dates.as_of_date,
        interactions.occurred_at as last_touch_at
    from interactions
    inner join dates
        on
            interactions.occurred_at < dates.as_of_date
            and (interactions.next_occurred_at is null or interactions.next_occurred_at >= dates.as_of_date)

),

touches as (

    select
        interactions.account_id,
        dates.as_of_date,
        count(*) as touches_90d,
        {{ count_where("interactions.direction = 'inbound'") }} as inbound_90d,
        {{ count_where("interactions.channel = 'meeting'") }} as meetings_90d
    from interactions
    inner join dates on {{ in_last("interactions.occurred_at", 90) }}
    group by interactions.account_id, dates.as_of_date

),

-- An answer stands until the next one.
answers as (

    select
        account_id,
        responded_at,
        score,
        lag(score) over (partition by account_id order by responded_at, response_id) as score_before,
        lead(responded_at) over (partition by account_id order by responded_at, response_id) as next_responded_at
    from {{ ref("int_survey_responses_united") }}
    where kind = 'nps'

),

surveys as (

    select
        answers.account_id,
        dates.as_of_date,
        answers.score as nps_last_score,
        answers.responded_at as nps_last_at,
        answers.score - answers.score_before as nps_change,
        {{ days_between("answers.responded_at", "dates.as_of_date") }} as nps_age_days
    from answers
    inner join dates
        on
            answers.responded_at < dates.as_of_date
            and (answers.next_responded_at is null or answers.next_responded_at >= dates.as_of_date)

),

final as (

    select
        accounts.account_id,
        accounts.as_of_date,
        cast({{ measured("people.contacts", "accounts.has_contacts") }} as bigint) as contacts,
        {% set knows_roles, knows_leaving = "accounts.has_contacts_role", "accounts.has_contacts_left_at" -%}
        cast({{ measured("people.champions", "accounts.has_contacts", knows_roles) }} as bigint) as champions,
        {{ measured("people.champions", "accounts.has_contacts", knows_roles) }} > 0 as has_champion,
        {% for count, needs in {
            "champions_left_180d": knows_roles ~ " and " ~ knows_leaving,
            "contacts_left_90d": knows_leaving,
        }.items() -%}
            cast({{ measured("people." ~ count, "accounts.has_contacts", needs) }} as bigint) as {{ count }},
        {% endfor -%}
        people.unsubscribed_pct,
        last_touches.last_touch_at,
        cast({{ days_between("last_touches.last_touch_at", "accounts.as_of_date") }} as bigint) as days_since_last_touch,
        {% for count, needs in {
            "touches_90d": none,
            "inbound_90d": "accounts.has_interactions_direction",
            "meetings_90d": "accounts.has_interactions_channel",
        }.items() -%}
            cast({{ measured("touches." ~ count, "accounts.has_interactions", needs) }} as bigint) as {{ count }},
        {% endfor -%}
        surveys.nps_last_score,
        surveys.nps_last_at,
        surveys.nps_change,
        cast(surveys.nps_age_days as bigint) as nps_age_days
    from accounts
    left join people
        on
            accounts.account_id = people.account_id
            and accounts.as_of_date = people.as_of_date
    left join last_touches
        on
            accounts.account_id = last_touches.account_id
            and accounts.as_of_date = last_touches.as_of_date
    left join touches
        on
            accounts.account_id = touches.account_id
            and accounts.as_of_date = touches.as_of_date
    left join surveys
        on
            accounts.account_id = surveys.account_id
            and accounts.as_of_date = surveys.as_of_date

)

select * from final
