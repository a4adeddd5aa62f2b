//! The averages of survey attributes: which rows count, and what receivers get of them.

use serde_json::{Value, json};
use time::{Date, Duration};
use uuid::Uuid;
use vivadrop::sweep::SweepMode;

use super::{
    directory::column_key,
    process::Process,
    survey::{BOUNDS, define, definitions_of, deliver, email, of_kind, put_drop, today, window_end},
    world::{World, path},
};

/// Delivers a drop with these rows, and imports `Email hours` from it. The definitions have `member` as well.
async fn imported(rows: &str, member: (&str, Value)) -> World {
    let world = World::default();
    put_drop(&world, &path(), rows, column_key()).await;
    let process = Process::new(&world);
    let mut definitions = definitions_of(email(BOUNDS), today());
    definitions[member.0] = member.1;
    define(&process, &definitions).await;
    deliver(&process, &path()).await;
    process.sweep(SweepMode::Timer).await.unwrap();
    world
}

/// The people of the import, by id.
fn people(world: &World) -> Vec<Value> {
    of_kind(world, "").iter().flat_map(|batch| batch["people"].as_array().unwrap().clone()).collect()
}

/// A row of person `number`.
fn row(number: u64, date: Date, hours: u64, is_active: bool) -> String {
    let row = json!({"ObjectId": Uuid::from_u128(number.into()), "MetricDate": date.to_string(),
        "CollaborationHoursEmails": hours, "IsActive": is_active});
    format!("{row}\n")
}

/// The rows of `people` people in the twelve weeks before the cycle that ends today; `row` gets the number of a person,
/// the number of a week from 1, and its date.
fn weekly_rows(people: u64, row: impl Fn(u64, u64, Date) -> String) -> String {
    let mut rows = String::new();
    for number in 0..people {
        for week in 1..=12 {
            rows += &row(number, week, window_end(today()) - Duration::days(7 * week as i64));
        }
    }
    rows
}

fn first_of_month(date: Date) -> Date {
    date.replace_day(1).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_hours_of_a_monthly_drop_are_scaled_to_weeks() {
    let end = window_end(today());
    // The latest of five months contains the last day of the window. Five firsts of months are never all Sundays.
    let latest = first_of_month(end.previous_day().unwrap());
    let months = std::iter::successors(Some(latest), |month| month.previous_day().map(first_of_month)).take(5);
    let months: Vec<Date> = months.collect();
    // Person n has d x (n / 5) hours in a month of d days. Times 7 / d, this is 7 x (n / 5) hours a week: 0, 7, 14 or
    // 21. The bounds are 5, 10 and 15, so five people are in each range. Without scaling, all but the first five would
    // be in the fourth range.
    let mut rows = String::new();
    for number in 0..20 {
        for month in &months {
            let days = u64::from(month.month().length(month.year()));
            rows += &row(number, *month, days * (number / 5), true);
        }
    }
    let world = imported(&rows, ("values", true.into())).await;
    let completed = &of_kind(&world, ".completed")[0];
    assert_eq!(completed["counts"], json!({"Email hours": [5, 5, 5, 5]}));
    let in_window = months.iter().filter(|month| **month >= end - Duration::days(84)).count();
    let window = json!({"start": (end - Duration::days(84)).to_string(), "end": end.to_string(),
        "weeks": in_window, "period": "month"});
    let batches = of_kind(&world, "");
    assert!(batches.iter().chain([completed]).all(|data| data["window"] == window), "{batches:?}");
    let people = people(&world);
    assert_eq!(people.len(), 20);
    for (number, person) in people.iter().enumerate() {
        let value = &person["attributes"]["Email hours"]["value"];
        assert_eq!((&person["weeks"], value), (&json!(in_window), &json!(number / 5 * 7)));
    }
}

#[tokio::test(start_paused = true)]
async fn weeks_in_which_a_person_is_inactive_can_be_left_out() {
    // Person n has n hours in each of eight weeks, and 100 hours in each of four inactive weeks. The average is n
    // without the inactive weeks, and (8 n + 400) / 12 > 33 with them. Person 20 is never active, and has 100 hours a
    // week.
    let rows = weekly_rows(21, |number, week, date| {
        let is_active = week > 4 && number < 20;
        row(number, date, if is_active { number } else { 100 }, is_active)
    });
    for (inactive_weeks, included, weeks, counts) in
        [("exclude", 20, 8, [5, 5, 5, 5]), ("include", 21, 12, [0, 0, 0, 21])]
    {
        let world = imported(&rows, ("inactiveWeeks", inactive_weeks.into())).await;
        let completed = &of_kind(&world, ".completed")[0];
        assert_eq!(completed["counts"], json!({"Email hours": counts}), "{inactive_weeks}");
        let people = people(&world);
        assert_eq!((people.len(), &completed["people"]), (included, &json!(included)), "{inactive_weeks}");
        assert!(people.iter().all(|person| person["weeks"] == weeks), "{inactive_weeks}: {people:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn people_have_their_averages_if_the_definitions_ask_for_values() {
    // Person n has n hours in four weeks and n + 1 hours in eight: (12 n + 8) / 12 = n + 2/3, which is truncated to six
    // decimals.
    let rows = weekly_rows(20, |number, week, date| row(number, date, number + u64::from(week > 4), true));
    let world = imported(&rows, ("values", true.into())).await;
    let people = people(&world);
    assert_eq!(people.len(), 20);
    for (number, person) in people.iter().enumerate() {
        let value: Value = serde_json::from_str(&format!("{number}.666666")).unwrap();
        assert_eq!(person["attributes"]["Email hours"]["value"], value);
    }
    let world = imported(&rows, ("values", false.into())).await;
    assert!(of_kind(&world, "").iter().all(|batch| !batch.to_string().contains("\"value\"")));
}
