//! Who may drop where, and who may not although they say so.

use proptest::prelude::*;

use super::*;

const A: &str = "0cf29e4e-641d-4478-8b66-a40ccb72faf9";
const B: &str = "7da33e17-783a-47e5-b238-dcec69539374";
const C: &str = "9db93126-258e-4f86-9e28-88ed36ac7214";

fn id(text: &str) -> TenantId {
    text.parse().unwrap()
}

fn path(text: &str) -> DropPath {
    text.parse().unwrap()
}

fn tenants(text: &str) -> Tenants {
    text.parse().unwrap()
}

fn may_write(setting: &str, tenant: &str, at: &str) -> bool {
    tenants(setting).may_write(id(tenant), &path(at))
}

#[test]
fn the_short_form_covers_the_guid_as_container_and_as_folder_in_any_case() {
    for at in [
        A.to_string(),
        format!("{A}/run"),
        format!("datasets/run/VivaInsights/{A}"),
        format!("datasets/{}/run", A.to_uppercase()),
    ] {
        assert!(may_write(A, A, &at), "{at}");
        assert!(may_write(&A.to_uppercase(), A, &at), "{at}");
    }
    for at in ["datasets/run".to_string(), format!("datasets/x{A}"), format!("datasets/{A}x/run")] {
        assert!(!may_write(A, A, &at), "{at}");
    }
}

#[test]
fn the_long_form_covers_its_place_and_all_below_it() {
    let setting = format!("{A}=datasets/a");
    assert!(may_write(&setting, A, "datasets/a"));
    assert!(may_write(&setting, A, "datasets/a/run/VivaInsights"));
    for at in ["datasets", "datasets/ab", "datasets/A", "datasets/b/a", "other/a", "data"] {
        assert!(!may_write(&setting, A, at), "{at}");
    }
}

#[test]
fn the_long_form_may_be_a_container_alone() {
    let setting = format!("{A}=customer-a");
    assert!(may_write(&setting, A, "customer-a"));
    assert!(may_write(&setting, A, "customer-a/run"));
    assert!(!may_write(&setting, A, "customer-ab/run"));
    assert!(!may_write(&setting, A, &format!("datasets/{A}")));
}

#[test]
fn a_tenant_may_have_several_places() {
    let setting = format!("{A}=one, {A}=two/a ,{A}");
    for at in ["one/run".to_string(), "two/a/run".into(), format!("three/{A}")] {
        assert!(may_write(&setting, A, &at), "{at}");
    }
    assert!(!may_write(&setting, A, "two/b"));
    assert_eq!(tenants(&setting).ids(), [id(A)]);
}

#[test]
fn a_drop_that_names_another_tenant_than_its_place_is_refused() {
    let tenants = tenants(&format!("{A},{B}"));
    let at = path(&format!("datasets/run/VivaInsights/{A}"));
    let refused = tenants.admit(&at, Some(id(B)));
    assert_eq!(refused, Err(Refusal::WrongPlace { tenant: id(B), path: at }));
}

#[test]
fn a_tenant_that_is_not_configured_is_refused_wherever_it_drops() {
    let at = path(&format!("datasets/{A}/{C}"));
    let refused = tenants(&format!("{A},{B}")).admit(&at, Some(id(C)));
    assert_eq!(refused, Err(Refusal::UnknownTenant { tenant: id(C), path: at }));
}

#[test]
fn a_drop_that_names_no_tenant_is_refused() {
    let at = path(&format!("datasets/{A}"));
    let refused = tenants(A).admit(&at, None).unwrap_err();
    assert_eq!(refused.to_string(), format!("the job metadata of `datasets/{A}` has no TenantId"));
}

#[test]
fn a_folder_named_like_another_tenant_does_not_drop_in_its_name() {
    let tenants = tenants(&format!("{A},{B}"));
    for at in [format!("{A}/{B}"), format!("datasets/{A}/run/{B}/x")] {
        let at = path(&at);
        let refused = tenants.admit(&at, Some(id(B)));
        let (tenant, owner) = (id(B), id(A));
        assert_eq!(refused, Err(Refusal::InsideAnothers { tenant, owner, path: at.clone() }));
        assert_eq!(tenants.admit(&at, Some(id(A))), Ok(id(A)));
        assert_eq!(tenants.places(&at), [id(A)]);
    }
    assert!(tenants.may_write(id(A), &path(&format!("{A}/{B}/{A}"))));
}

#[test]
fn nor_does_one_inside_a_place_of_the_long_form() {
    let tenants = tenants(&format!("{A}=customer-a,{B}"));
    let at = path(&format!("customer-a/{B}"));
    assert!(matches!(tenants.admit(&at, Some(id(B))), Err(Refusal::InsideAnothers { .. })));
    assert_eq!(tenants.places(&at), [id(A)]);
}

#[test]
fn a_place_in_as_many_words_counts_wherever_it_lies() {
    let setting = format!("{A},{B}=datasets/{A}/for-b");
    let at = format!("datasets/{A}/for-b/run");
    assert!(may_write(&setting, B, &at));
    assert_eq!(tenants(&setting).places(&path(&at)), [id(A), id(B)]);
}

#[test]
fn tenants_that_share_a_place_are_told_apart_by_what_the_drop_says() {
    let setting = format!("{A}=datasets,{B}=datasets");
    assert!(may_write(&setting, A, "datasets/run") && may_write(&setting, B, "datasets/run"));
    assert_eq!(tenants(&setting).places(&path("datasets/run")), [id(A), id(B)]);
    assert_eq!(tenants(&setting).places(&path("other")), []);
}

#[test]
fn the_containers_are_those_of_places_and_the_guids_of_the_short_form() {
    let upper = B.to_uppercase();
    let tenants = tenants(&format!("{A}=customer-a/x,{upper},{A}=customer-a/y"));
    assert_eq!(tenants.containers(), ["customer-a".to_string(), B.to_string()]);
    for name in ["customer-a", B, &upper] {
        assert!(tenants.covers_container(name), "{name}");
    }
    for name in ["customer-ab", A, "datasets", "", "vivadrop-state"] {
        assert!(!tenants.covers_container(name), "{name}");
    }
}

#[test]
fn spaces_around_entries_and_a_comma_at_the_end_are_fine() {
    assert_eq!(tenants(&format!(" {A} , {B} = datasets/b/ ,")), tenants(&format!("{A},{B}=datasets/b")));
}

#[test]
fn every_bad_entry_is_reported() {
    let setting = format!("contoso, {A}, {B}=, {B}=a//b, {B}=a/../b, {B}=datasets/*, =datasets, {A}x");
    let BadTenants(bad) = setting.parse::<Tenants>().unwrap_err();
    assert_eq!(bad.len(), 7, "{bad:#?}");
    assert!(bad[0].starts_with("`contoso`: expected a GUID"), "{}", bad[0]);
    assert!(bad[2].starts_with(&format!("`{B}=a//b`: expected `container/folder`")), "{}", bad[2]);
    assert!(bad[4].contains("without `*`"), "{}", bad[4]);
}

#[test]
fn a_setting_that_names_nobody_is_an_error() {
    for setting in ["", " ", ",", " , "] {
        let bad = setting.parse::<Tenants>().unwrap_err().to_string();
        assert!(bad.starts_with("expected a comma list"), "{bad}");
    }
}

proptest! {
    /// Of tenants in the short form, one path belongs to one at most, and whoever is admitted may have written there.
    #[test]
    fn a_path_has_one_owner_and_nobody_else_is_admitted(folders in prop::collection::vec(prop::sample::select(vec![A, B, C, "run", "VivaInsights"]), 1..6)) {
        let tenants = tenants(&format!("{A},{B},{C}"));
        let at = path(&folders.join("/"));
        let owner: Option<TenantId> = folders.iter().find_map(|folder| folder.parse().ok());
        prop_assert_eq!(tenants.places(&at), owner.into_iter().collect::<Vec<_>>());
        for tenant in [A, B, C].map(id) {
            prop_assert_eq!(tenants.admit(&at, Some(tenant)).is_ok(), owner == Some(tenant));
        }
    }
}

#[test]
fn a_container_has_the_writers_whose_drops_would_be_believed_there() {
    let (a, b): (TenantId, TenantId) = (A.parse().unwrap(), B.parse().unwrap());
    let writers = |text: &str, container: &str| text.parse::<Tenants>().unwrap().writers(container);
    // The short form is believed in a container of everybody's, and never in another tenant's.
    assert_eq!(writers(&format!("{A},{B}"), "datasets"), [a, b]);
    assert_eq!(writers(&format!("{A},{B}"), A), [a]);
    assert_eq!(writers(&format!("{A}={A},{B}={B}"), A), [a]);
    assert_eq!(writers(&format!("{A}=shared/a,{B}=shared/b"), "shared"), [a, b]);
    assert_eq!(writers(&format!("{A}=shared,{B}"), "shared"), [a]);
    assert_eq!(writers(&format!("{A}=shared/a,{B}"), "shared"), [a, b]);
}
