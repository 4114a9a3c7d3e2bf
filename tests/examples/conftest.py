"""What the raw files of the examples say, by SQL written by hand over the files alone, and the ordinary job run on each.

Nothing here reads `sources/` or `models/`: every figure is found a second way. Missing data is a failure in CI and a skip
elsewhere (`example_home`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.warehouse import rows, scratch
from tests.conftest import PROJECT, Home, example_home

Monthly = dict[date, Any]


@dataclass(frozen=True)
class Example:
    """An example after its first run: its data, its home, and what the command answered."""

    data: Path
    home: Home
    answer: dict[str, Any]

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """Rows of the published copy."""
        return self.home.ask(sql)

    def labels(self) -> dict[date, tuple[int, int, int]]:
        """By as-of date whose labels are known: accounts that could be judged, labelled ones, and lost ones."""
        found = self.home.ask(
            "select as_of_date, count(*) as eligible, count(has_churned) as labelled, count(*) filter (has_churned) as lost"
            " from features.ftr_account_labels group by as_of_date order by as_of_date",
            self.home.path / "warehouse.duckdb",
        )
        return {row.pop("as_of_date"): tuple(row.values()) for row in found}

    def raw(self, sql: str) -> list[dict[str, Any]]:
        """Rows of the raw files; `{data}` in `sql` is their folder."""
        with scratch() as connection:
            return rows(connection, sql.replace("{data}", str(self.data)))

    def loads(self) -> dict[str, tuple[int, int, int, int]]:
        """By stream: rows read, inserted, superseded, quarantined."""
        found = self.ask(
            "select stream, rows_read, rows_inserted, rows_superseded, rows_quarantined from quality.loads"
        )
        return {row.pop("stream"): tuple(row.values()) for row in found}

    def monthly(self, column: str) -> Monthly:
        """A column of the published company-level months."""
        return {
            row["month_start_date"]: row[column]
            for row in self.ask(f"select month_start_date, {column} from marts.months order by 1")
        }

    def raw_monthly(self, sql: str) -> Monthly:
        """Rows (month, value) of a query on the raw files."""
        return {row["month"]: row["value"] for row in self.raw(sql)}


def _first_run(name: str) -> Callable[[pytest.TempPathFactory], Example]:
    @pytest.fixture(scope="session", name=name)
    def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
        home = example_home(name, tmp_path_factory)
        return Example(PROJECT.parent / "shared" / "data" / name, home, home.must("run"))

    return example


online_retail = _first_run("online_retail")
oulad = _first_run("oulad")
ravenstack = _first_run("ravenstack")


# --- Online Retail: 305 daily files of invoice lines ------------------------------------------------------------------

RETAIL_LINES = """
    select InvoiceNo as invoice, try_cast(CustomerID as double) as customer, Quantity as quantity, UnitPrice as price,
        InvoiceDate as issued, Country as country, filename as file
    from read_csv('{data}/*.csv.gz', types = {'InvoiceNo': 'VARCHAR', 'StockCode': 'VARCHAR', 'CustomerID': 'VARCHAR',
        'Quantity': 'BIGINT', 'UnitPrice': 'DECIMAL(18,3)', 'InvoiceDate': 'TIMESTAMP'}, filename = true)
"""

RETAIL_COUNTS = f"""
    with lines as ({RETAIL_LINES}),
    invoices as (select file, invoice, customer from lines group by all),
    days as (select file, customer from lines group by all)
    select
        (select count(*) from lines) as lines,
        (select count(*) from lines where customer is null) as lines_without_customer,
        (select count(*) from invoices) as invoices,
        (select count(*) from invoices where customer is null) as invoices_without_customer,
        (select count(distinct invoice) from lines where customer is not null) as invoices_of_customers,
        (select count(*) from days) as customer_days,
        (select count(*) from days where customer is null) as days_without_customer,
        (select count(distinct customer) from lines) as customers,
        (select count(*) from lines where customer is not null and starts_with(invoice, 'C')) as cancelled_lines
"""

RETAIL_REVENUE = f"""
    with lines as ({RETAIL_LINES}),
    invoices as (
        select invoice, min(issued) as issued, round(sum(quantity * price), 2) as amount
        from lines where customer is not null group by invoice
    )
    select cast(date_trunc('month', issued) as date) as month, sum(amount) as value from invoices group by month order by month
"""

RETAIL_CUSTOMERS = f"""
    select cast(date_trunc('month', issued) as date) as month, count(distinct customer) as value
    from ({RETAIL_LINES}) where customer is not null group by month order by month
"""


RETAIL_LABELS = f"""
    with lines as ({RETAIL_LINES}),
    invoices as (
        select customer, min(issued) as issued from lines where customer is not null
        group by customer, invoice having round(sum(quantity * price), 2) > 0
    ),
    dates as (select unnest(generate_series(date '2011-03-01', date '2011-09-01', interval 1 month)) as day),
    judged as (
        select day, customer, bool_or(issued >= day) as bought from dates
        join invoices on issued >= day - interval 180 day and issued < day + interval 90 day
        group by day, customer having bool_or(issued < day)
    )
    select cast(day as date) as month, [count(*), count(*), count_if(not bought)] as value from judged group by day order by day
"""


# --- OULAD: enrolments with days counted from the start of the course -------------------------------------------------

OULAD_ENROLMENTS = """
    select
        starts.day + cast(r.date_registration as integer) as started,
        starts.day + cast(r.date_unregistration as integer) as left_on,
        starts.day + c.module_presentation_length as course_ended,
        r.id_student as student
    from '{data}/student_registration.parquet' as r
    join '{data}/course.parquet' as c on c.code_module = r.code_module and c.code_presentation = r.code_presentation
    join (values ('2013B', date '2013-02-01'), ('2013J', date '2013-10-01'), ('2014B', date '2014-02-01'),
        ('2014J', date '2014-10-01')) as starts (presentation, day) on starts.presentation = r.code_presentation
"""

# Each assignment that fell due while somebody was enrolled, and when it was handed in.
OULAD_DUE = """
    with starts (presentation, day) as (values ('2013B', date '2013-02-01'), ('2013J', date '2013-10-01'),
        ('2014B', date '2014-02-01'), ('2014J', date '2014-10-01'))
    select r.id_student as student, starts.day + cast(a.date as integer) as due_on,
        starts.day + cast(s.date_submitted as integer) as handed_in_on
    from '{data}/student_registration.parquet' as r
    join starts on starts.presentation = r.code_presentation
    join '{data}/assessment.parquet' as a on a.code_module = r.code_module and a.code_presentation = r.code_presentation
    left join '{data}/student_assessment.parquet' as s on s.id_assessment = a.id_assessment and s.id_student = r.id_student
    where a.assessment_type <> 'Exam' and a.date > r.date_registration
        and (r.date_unregistration is null or a.date < r.date_unregistration)
"""

OULAD_DUE_BY_MONTH = f"""
    select cast(date_trunc('month', due_on) as date) as month, [count(*), count(handed_in_on)] as value
    from ({OULAD_DUE}) group by month order by month
"""

OULAD_OWED = f"""
    with dates as (select cast(unnest(generate_series(date '2013-03-01', date '2015-05-01', interval 1 month)) as date) as day)
    select day as month, count(*) as value from dates
    join ({OULAD_DUE}) on due_on < day and (handed_in_on is null or handed_in_on >= day)
    group by day order by day
"""

OULAD_COUNTS = f"""
    select count(*) as enrolments, count(distinct student) as students,
        count(*) filter (where started is null) as without_start,
        count(*) filter (where started is not null and left_on < course_ended) as canceled,
        count(*) filter (where started is not null and (left_on is null or left_on >= course_ended)) as completed,
        (select count(*) from '{{data}}/student_assessment.parquet') as submissions,
        (select count(*) from ({OULAD_DUE})) as due
    from ({OULAD_ENROLMENTS})
"""

OULAD_ACTIVE = f"""
    with enrolments as (
        select started, least(left_on, course_ended) as ended from ({OULAD_ENROLMENTS}) where started is not null
    ),
    months as (select unnest(generate_series(date '2012-03-01', date '2015-09-01', interval 1 month)) as month)
    select cast(month as date) as month,
        count(started) filter (where started < month + interval 1 month and ended >= month + interval 1 month) as value
    from months cross join enrolments group by month order by month
"""

OULAD_EARLY = """
    with starts (presentation, day) as (values ('2013B', date '2013-02-01'), ('2013J', date '2013-10-01'),
        ('2014B', date '2014-02-01'), ('2014J', date '2014-10-01')),
    students as (
        select id_student, coalesce(min(day + cast(date_registration as integer)), min(day)) as first_day
        from '{data}/student_registration.parquet' join starts on presentation = code_presentation group by all
    )
    select count(*) as submissions, count(*) filter (where is_banked) as banked
    from '{data}/student_assessment.parquet'
    join '{data}/assessment.parquet' using (id_assessment)
    join starts on presentation = code_presentation
    join students using (id_student)
    where day + date_submitted < first_day
"""


# Enrolments that follow each other within 30 days are one spell. Who leaves a course early on the last day of a spell has left; who
# only completes on that day says nothing.
OULAD_LABELS = f"""
    with enrolments as (
        select student, started, least(left_on, course_ended) as ended, coalesce(left_on < course_ended, false) as canceled
        from ({OULAD_ENROLMENTS}) where started < least(left_on, course_ended)
    ),
    marked as (
        select *, coalesce(started > 30 + max(ended) over (partition by student order by started, ended
            rows between unbounded preceding and 1 preceding), true) as is_new
        from enrolments
    ),
    numbered as (
        select *, count_if(is_new) over (partition by student order by started, ended) as spell from marked
    ),
    spells as (
        select student, min(started) as began, max(ended) as ended, bool_or(canceled and ended = last_day) as canceled
        from (select *, max(ended) over (partition by student, spell) as last_day from numbered) group by student, spell
    ),
    dates as (
        select cast(unnest(generate_series(date '2013-03-01', date '2015-06-01', interval 1 month)) as date) as day
    ),
    judged as (
        select distinct day, student from dates join enrolments on started < day and ended >= day where day + 60 <= date '2015-09-16'
    )
    select day as month, [count(*), count_if(ended >= day + 30 or canceled), count_if(ended < day + 30 and canceled)] as value
    from judged join spells using (student) where began < day and ended >= day group by day order by day
"""


# --- RavenStack: day-first dates, several subscriptions for an account ------------------------------------------------

RAVENSTACK_SUBSCRIPTIONS = """
    select account_id as account, subscription_id as id, mrr_amount as mrr, lower(is_trial) = 'true' as is_trial,
        cast(strptime(start_date, '%d-%m-%Y') as date) as started,
        cast(strptime(nullif(end_date, ''), '%d-%m-%Y') as date) as ended
    from read_csv('{data}/ravenstack_subscriptions.csv', types = {'start_date': 'VARCHAR', 'end_date': 'VARCHAR',
        'is_trial': 'VARCHAR', 'mrr_amount': 'DECIMAL(18,2)'})
"""

RAVENSTACK_MRR = f"""
    with months as (select unnest(generate_series(date '2023-01-01', date '2024-12-01', interval 1 month)) as month)
    select cast(month as date) as month, coalesce(sum(mrr) filter (where not is_trial
        and started < month + interval 1 month and (ended is null or ended >= month + interval 1 month)), 0) as value
    from months cross join ({RAVENSTACK_SUBSCRIPTIONS}) group by month order by month
"""

RAVENSTACK_CONTRADICTIONS = f"""
    with subscriptions as ({RAVENSTACK_SUBSCRIPTIONS}),
    usage as (select subscription_id as id, cast(strptime(usage_date, '%d-%m-%Y') as date) as day
        from read_csv('{{data}}/ravenstack_feature_usage.csv', types = {{'usage_date': 'VARCHAR'}})),
    accounts as (select account_id as account, cast(strptime(signup_date, '%d-%m-%Y') as date) as signed_up,
        lower(churn_flag) = 'true' as churned
        from read_csv('{{data}}/ravenstack_accounts.csv', types = {{'signup_date': 'VARCHAR', 'churn_flag': 'VARCHAR'}})),
    tickets as (select account_id as account, cast(strptime(submitted_at, '%d-%m-%Y') as date) as day
        from read_csv('{{data}}/ravenstack_supports_ticket.csv', types = {{'submitted_at': 'VARCHAR'}}))
    select
        (select count(*) from usage join subscriptions using (id) where day < started) as usage_before_subscription,
        (select count(*) from tickets join accounts using (account) where day < signed_up) as tickets_before_signup,
        (select count(*) from usage join subscriptions using (id) join accounts using (account)
            where day < signed_up) as usage_before_signup,
        (select count(*) from accounts where churned) as flagged_churners,
        (select count(*) from accounts where churned
            and account in (select account from subscriptions where ended is null)) as flagged_churners_with_open_subscription
"""


def as_decimal(monthly: Monthly) -> dict[date, Decimal]:
    """The values as decimals with two places, months without any left out."""
    return {month: Decimal(value).quantize(Decimal("0.01")) for month, value in monthly.items() if value}
