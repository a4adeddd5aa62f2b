//! Settings that name columns.

use super::{tenants::with_tenants, *};

#[test]
fn the_width_of_the_terminal_never_switches_the_column_filter() {
    let columns = |changes: &[(&str, &str)]| Config::read(&settings(changes)).unwrap().common.rules.rows.columns;
    let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    assert_eq!(columns(&[("COLUMNS", "132")]), None);
    assert_eq!(columns(&[("ROW_COLUMNS", "a"), ("COLUMNS", "132")]), names(&["a"]));
    assert_eq!(columns(&[("ROW_COLUMNS", "132")]), names(&["132"]), "a name, because shells do not set this variable");
    // For one more version, the old name is read.
    assert_eq!(columns(&[("COLUMNS", "a,b")]), names(&["a", "b"]));
    assert_eq!(columns(&[("ROW_COLUMNS", "a"), ("COLUMNS", "a,b")]), names(&["a"]));
    let decode = DecodeConfig::read(&[("COLUMNS", "a")].into_iter().collect()).unwrap();
    assert_eq!(decode.rules.rows.columns, names(&["a"]));

    let own = |json: &str, app: &[(&str, &str)]| {
        let mut settings = with_tenants(&format!(r#"{{"{TENANT}": {json}}}"#));
        app.iter().for_each(|(name, value)| settings.set(name, *value));
        Config::read(&settings)
            .map(|config| config.tenant_overrides[&TENANT.parse().unwrap()].rules.rows.columns.clone())
    };
    let app = [("ROW_COLUMNS", "*")];
    assert_eq!(
        own(r#"{"COLUMNS": "a"}"#, &app),
        Ok(names(&["a"])),
        "the old name of a tenant beside the new one of the app"
    );
    assert_eq!(own(r#"{"ROW_COLUMNS": "a"}"#, &[("COLUMNS", "b")]), Ok(names(&["a"])));
    assert_eq!(own(r#"{"BATCH_ROWS": 7}"#, &[("COLUMNS", "b")]), Ok(names(&["b"])));
    assert_eq!(own(r#"{"COLUMNS": "a", "ROW_COLUMNS": "b"}"#, &app).unwrap_err().0.len(), 1);
}

#[test]
fn a_column_name_in_double_quotes_may_contain_commas() {
    let columns =
        |text: &str| Config::read(&settings(&[("ROW_COLUMNS", text)])).map(|config| config.common.rules.rows.columns);
    assert_eq!(columns("*"), Ok(None));
    assert_eq!(columns(r#"a, "b, c" ,d"#), Ok(Some(vec!["a".into(), "b, c".into(), "d".into()])));
    for wrong in [",", r#""a"#, r#"a"b"#, r#""a"b""#] {
        assert!(columns(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn columns_that_the_user_names_are_expected_in_a_file() {
    let expected = |changes: &[(&str, &str)]| {
        let rules = Config::read(&settings(changes)).unwrap().common.rules.rows;
        let text = |column: &ExpectedColumn| {
            format!("{} {}{}", column.setting, column.name, if column.is_optional { " (optional)" } else { "" })
        };
        rules.checks.expected.iter().map(text).collect::<Vec<_>>()
    };
    assert!(expected(&[]).is_empty(), "a default must not fail a file");
    assert_eq!(expected(&[("ENCRYPTED_COLUMNS", "ObjectId")]), ["ENCRYPTED_COLUMNS ObjectId"]);
    let columns = "ObjectId, rare?,\"with, comma\",\"rare, with comma\"?, \"certain?\"";
    let names = [
        "ROW_COLUMNS ObjectId",
        "ROW_COLUMNS rare (optional)",
        "ROW_COLUMNS with, comma",
        "ROW_COLUMNS rare, with comma (optional)",
        "ROW_COLUMNS certain?",
    ];
    assert_eq!(expected(&[("ROW_COLUMNS", columns)]), names);
    assert_eq!(
        Config::read(&settings(&[("ROW_COLUMNS", columns)])).unwrap().common.rules.rows.columns.unwrap(),
        ["ObjectId", "rare", "with, comma", "rare, with comma", "certain?"]
    );
    let key = ("DIRECTORY_KEY", "Email=mail");
    assert!(expected(&[key]).is_empty(), "nothing is joined");
    assert_eq!(expected(&[key, ("DIRECTORY", "join")]), ["DIRECTORY_KEY Email"]);
    assert!(expected(&[("DIRECTORY", "join")]).is_empty());
}

#[test]
fn an_asterisk_beside_names_or_with_a_question_mark_is_rejected_at_start() {
    for (name, value) in
        [("ROW_COLUMNS", "*,Foo"), ("ROW_COLUMNS", "*?"), ("ROW_COLUMNS", "a, *"), ("ENCRYPTED_COLUMNS", "*")]
    {
        let problems = problems(&[(name, value)]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("{name} is not usable: `*` ")), "{problems:?}");
    }
}
