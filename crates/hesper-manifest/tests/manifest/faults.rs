//! Bad files: each with the place, the reason and the next step; all of them at once.

use crate::{bad_files::BAD_FILES, controller::Controller, read, source, told};
use hesper_manifest::{Manifest, Source};

#[test]
fn each_fault_has_a_place_a_reason_and_a_next_step() {
    let mut wrong = String::new();
    for (text, expected) in BAD_FILES {
        let faults = Manifest::read(&source(text), None).expect_err(text);
        let all = told(&faults);
        if faults.len() != 1 || !all.starts_with(expected) {
            wrong += &format!("{text}\nexpected {expected}\n     got {all}\n");
        }
        assert!(faults.iter().all(|fault| !fault.next.is_empty()), "{all}");
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(BAD_FILES.len() >= 50);
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_files() {
    let files = [
        ("b.yaml", "services:\n  - {name: x, colour: red, configs: [none]}\n  - {nam: y}\n"),
        ("a.yaml", "service-policies: [{name: p, serviceRoles: [\"@z\", q]}]\n"),
    ];
    let files = files.map(|(name, text)| Source { name: name.into(), text: text.into() });
    let faults = Manifest::read(&files, None).expect_err("faults");
    let places: Vec<String> = faults.iter().map(|f| f.place.to_string()).collect();
    assert_eq!(
        places,
        [
            "b.yaml:2:15",
            "b.yaml:2:38",
            "b.yaml:3:5",
            "b.yaml:3:6",
            "a.yaml:1:20",
            "a.yaml:1:45",
            "a.yaml:1:51"
        ],
        "{}",
        told(&faults)
    );
}

#[test]
fn a_file_that_is_no_yaml_hides_no_other_fault_and_accuses_no_innocent_name() {
    let files = [
        ("a.yaml", "services: [{name: x}\n"),
        ("b.yaml", "edge-router-policies: [{name: e, identityRoles: [\"@x\"], z: 1}]\n"),
    ];
    let files = files.map(|(name, text)| Source { name: name.into(), text: text.into() });
    let faults = Manifest::read(&files, None).expect_err("faults");
    assert_eq!(faults.len(), 2, "{}", told(&faults));
    assert!(
        faults[0].reason.starts_with("this is not YAML") && faults[1].reason.contains("'z'"),
        "{}",
        told(&faults)
    );
}

#[test]
fn names_may_mean_what_the_controller_has() {
    let mut controller = Controller::new();
    controller.apply(&read("services: [{name: there}]\n"), false);
    let text = "service-policies: [{name: p, type: Dial, serviceRoles: [\"@there\"]}]\n";
    assert!(Manifest::read(&source(text), None).is_err());
    assert!(Manifest::read(&source(text), Some(&controller.snapshot())).is_ok());
    let faults = Manifest::read(&source(&text.replace("there", "theer")), Some(&controller.snapshot()));
    let all = told(&faults.expect_err("a fault"));
    assert!(all.contains("neither in these files nor at the controller; did you mean 'there'?"), "{all}");
}
