//! What belongs to another team, asked for by every role on every route that takes an id. The golden table holds each answer; a law
//! holds for all of them, and a new route fails until the table has it.

use std::fmt::Write;

use domain::{JobId, RequestId, Role, ScheduleId, ids::time_id};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::world::{Answer, World};
use crate::{
    access::Access,
    router::{Route, routes},
};

/// Whom the thing belongs to that an id names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Team,
    /// The same for everybody: no team's thing.
    Nobody,
}

/// An id that names a thing of another team, and one of the same form that names nothing.
struct Ids {
    owner: Owner,
    foreign: String,
    unknown: String,
}

/// Makes the thing, anew for each question: an answer may have removed it.
async fn ids(world: &World, route: &Route) -> Ids {
    let team = format!("other-{}", &Uuid::now_v7().simple().to_string()[..12]);
    let now = chrono::Utc::now();
    let of = |foreign: String, unknown: String| Ids { owner: Owner::Team, foreign, unknown };
    let ruled = |foreign: &str| Ids { owner: Owner::Nobody, foreign: foreign.into(), unknown: "nothing".into() };
    let mut segments = route.path.trim_start_matches("/api").trim_start_matches("/v1/").split('/');
    match segments.next().unwrap() {
        "jobs" => of(world.job(&team).await.to_string(), JobId::new(now).to_string()),
        "schedules" => of(schedule(world, &team).await.to_string(), ScheduleId(time_id(now)).to_string()),
        "calls" => {
            let unknown = RequestId { job: JobId::new(now), line: 0 };
            of(call(world, &team).await, unknown.to_string())
        }
        "teams" => {
            world.team(&team).await;
            of(team, "nothing".into())
        }
        "keys" => of(world.key(&team, Role::Submit).await[3..15].to_owned(), "zzzzzzzzzzzz".into()),
        "alerts" => Ids { unknown: Uuid::nil().to_string(), ..ruled(&alert(world).await.to_string()) },
        "budgets" => {
            let body = json!({"limit_usd": "1", "window": "day", "scope": {"team": world.team(&team).await.name}});
            let admin = world.key("ops", Role::Admin).await;
            let made = world.ask("PUT", &format!("/api/v1/budgets/{team}"), Some(&admin), &body.to_string()).await;
            assert_eq!(made.status, 200, "{}", made.json);
            ruled(&team)
        }
        "lanes" => ruled("night"),
        "deployments" => ruled("sim"),
        // Whoever may correct reaches over all teams.
        "ledger" => Ids { unknown: Uuid::nil().to_string(), ..ruled(&Uuid::now_v7().to_string()) },
        "models" => ruled("some/model"),
        noun => panic!("say what an id of {noun} is, for {} {}", route.method, route.path),
    }
}

async fn schedule(world: &World, team: &str) -> ScheduleId {
    let id = ScheduleId(time_id(chrono::Utc::now()));
    sqlx::query(
        "insert into schedule (schedule_id, team_id, key_id, name, cron, time_zone, skip_if_running, params, lines, requests)
         values ($1, $2, 'k', 'nightly', '0 0 * * *', 'UTC', false, '{}', '', 1)",
    )
    .bind(id.0)
    .bind(world.team(team).await.team_id)
    .execute(&world.pool)
    .await
    .unwrap();
    id
}

/// A synchronous call's only row.
async fn call(world: &World, team: &str) -> String {
    let id = RequestId { job: JobId::new(chrono::Utc::now()), line: 0 }.to_string();
    sqlx::query(
        "insert into ledger (attempt_id, request_id, attempt_no, attempt_reason, is_final, record_kind, requested_at, completed_at,
             usage_date, reserved_at, team, environment, feature, tags_json, worker_id, provider, deployment, model_requested,
             model_billed, processing, lane, status, billable, cache_hit, price_status, contracted_cost, batch_id)
         values (gen_random_uuid(), $1, 1, 'primary', true, 'original', now(), now(), (now() at time zone 'UTC')::date, now(), $2,
             'prod', 'f', '{}', 1, 'p', 'd', 'm', 'm', 'sync', 'prod', 'succeeded', true, false, 'priced', 7, 0)",
    )
    .bind(&id)
    .bind(team)
    .execute(&world.pool)
    .await
    .unwrap();
    id
}

async fn alert(world: &World) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        r#"insert into alert (alert_id, kind, about, object, since, said, raised_at)
           values ($1, 'budget', $1::text, 'b', now(), '{"title":"t","text":"t","fields":[]}', now())"#,
    )
    .bind(id)
    .execute(&world.pool)
    .await
    .unwrap();
    id
}

async fn ask(world: &World, route: &Route, id: &str, key: &str) -> Answer {
    let path = route.path.replace("{id}", id).replace("{*id}", id);
    world.ask(route.method, &path, Some(key), "").await
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_route_with_every_role_and_a_foreign_id(pool: PgPool) {
    let world = World::new(pool).await;
    let mut table = String::new();
    for route in routes().into_iter().filter(|route| route.path.contains('{')) {
        let Access::Needs(permission) = route.access else { panic!("{} takes an id and is open", route.path) };
        write!(table, "{:6} {:26}", route.method, route.path.replace("{*", "{")).unwrap();
        for role in Role::ALL {
            let key = world.key("search", role).await;
            let ids = ids(&world, &route).await;
            let answer = ask(&world, &route, &ids.foreign, &key).await;
            let case =
                format!("{} {} as {}: {} {}", route.method, route.path, role.as_str(), answer.status, answer.json);
            let is_held = permission.is_held_by(role);
            assert!(answer.status < 500 && answer.status != 401, "{case}");
            assert_eq!(answer.status == 403, !is_held, "{case}");
            if is_held && ids.owner == Owner::Team {
                let reaches = permission.reaches_all_teams(role);
                assert_eq!(answer.status == 404, !reaches, "{case}");
            }
            if answer.status == 404 {
                // As if it were not there at all, in every word.
                let unknown = ask(&world, &route, &ids.unknown, &key).await;
                let hidden = |answer: &Answer, id: &str| answer.json.to_string().replace(id, "ID");
                assert_eq!(hidden(&answer, &ids.foreign), hidden(&unknown, &ids.unknown), "{case}");
                assert_eq!(unknown.status, 404, "{case}");
            }
            write!(table, " {} {}", role.as_str(), answer.status).unwrap();
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

/// Ids that stand elsewhere than in the path.
#[sqlx::test(migrations = "../../migrations")]
async fn a_foreign_id_in_a_query_a_header_or_a_body_is_as_unknown(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("search", Role::Submit).await;
    let (foreign, unknown) = (world.job("chat").await, JobId::new(chrono::Utc::now()));
    let own = world.job("search").await;
    for id in [foreign, unknown] {
        for (method, path, body) in [
            ("POST", format!("/api/v1/jobs?after={id}"), "{}\n".to_owned()),
            ("POST", format!("/api/v1/quotes?after={id}"), "{}\n".to_owned()),
            ("POST", "/api/v1/jobs".to_owned(), format!("{{\"job\":{{\"after\":{{\"job\":\"{id}\"}}}}}}\n")),
            ("PATCH", format!("/api/v1/jobs/{own}"), format!(r#"{{"after":{{"job":"{id}"}}}}"#)),
            ("GET", "/api/v1/reports/spend?team=chat".to_owned(), String::new()),
        ] {
            let answer = world.ask(method, &path, Some(&key), &body).await;
            assert!(matches!(answer.status, 404 | 409 | 422), "{method} {path}: {} {}", answer.status, answer.json);
            assert!(!answer.json.to_string().contains("completed"), "its state is told: {}", answer.json);
        }
    }
}
