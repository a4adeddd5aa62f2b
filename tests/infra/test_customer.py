"""Tests of the managed application: exported columns, schedule, clean-up, notification, installer."""

import json
import re
import shutil
import tempfile
import unittest
import zipfile
from pathlib import Path

from . import given
from .arm import TENANT, Template, calls_in, parse
from .scripts import module

# The columns in Microsoft's documentation of supported metrics.
METRICS = """
    MetricDate IsActive AfterHoursCollaboration AfterHoursCollaborationEmails AfterHoursCollaborationInstantMessages
    AfterHoursCollaborationMeetings AfterHoursCollaborationScheduledCalls AfterHoursCollaborationAdhocCalls
    CollaborationHours CollaborationHoursEmails CollaborationHoursExternal CollaborationHoursInstantMessages
    CollaborationHoursMeetings CollaborationHoursScheduledCalls CollaborationHoursAdhocCalls ConflictingMeetingHours
    DirectManagerMeetingHours OneOnOneMeetingHours SkipLevelMeetingHours TotalFocusHours
""".split()
RUN = "@{pipeline().RunId}"


def deployed(values=given.EVERYTHING):
    """The parts of the Data Factory, by name."""
    resources = Template(given.MANAGED_APP, values[given.MANAGED_APP]).resources()
    return {resource["name"].split("/")[-1]: resource for resource in resources if "DataFactory" in resource["type"]}


def activities(values=given.EVERYTHING):
    """The activities of the weekly pipeline, by name."""
    return {each["name"]: each for each in deployed(values)["WeeklyExport"]["properties"]["activities"]}


def is_active(activity):
    """Whether Data Factory runs the activity. A deactivated one counts as succeeded."""
    return activity.get("state", "Active") == "Active"


def waits_for(activity):
    """The names of the activities that must succeed first."""
    for each in activity["dependsOn"]:
        assert each["dependencyConditions"] == ["Succeeded"], each
    return [each["activity"] for each in activity["dependsOn"]]


def folder(reference):
    """The dataset that a reference names, and the folder that it passes."""
    return reference["referenceName"], reference["parameters"]["folder"]["value"]


class Pipeline(unittest.TestCase):
    def columns(self, table):
        """The columns that are extracted from `table`, each with its type."""
        values = {**given.LEAST[given.MANAGED_APP], "tableName": table}
        dataset = deployed({given.MANAGED_APP: values})["VivaInsights"]["properties"]
        self.assertEqual(dataset["type"], "Office365Table")
        self.assertEqual(dataset["typeProperties"]["tableName"], table)
        return {column["name"]: column["type"] for column in dataset["structure"]}

    def test_extracts_every_supported_metric(self):
        self.assertEqual(set(self.columns("VivaInsightsDataset_v0")), set(METRICS))

    def test_extracts_every_column_of_the_later_report(self):
        columns = self.columns("VivaInsightsDataset_PersonReport_v1")
        self.assertLessEqual({"ObjectId", "MetricDate", "IsActive", "Collaboration hours", "Emails sent"}, set(columns))

    def test_metrics_are_those_that_the_handler_converts_to_numbers(self):
        source = (given.ROOT / "src/stage/columns.rs").read_text()
        for table in Template(given.MANAGED_APP).parameters["tableName"]["allowedValues"]:
            numbers = [name for name, kind in self.columns(table).items() if kind == "double"]
            label = f"{table} ({len(numbers)} metrics)"
            self.assertIn(label, given.USER_INTERFACE.read_text())
            for name in numbers:
                self.assertTrue(f'"{name}"' in source, name)

    def test_exports_to_the_path_where_the_handler_expects_drops(self):
        for name, kind in (("Viva Insights data", "VivaInsights"), ("the directory", "AADUser")):
            export = activities()[f"Export {name}"]
            (target,) = export["outputs"]
            self.assertEqual(folder(target), ("Partner", f"{RUN}/{kind}/{TENANT}"))
            # A flattened copy would not have the folder metadata/JobMetadata.
            self.assertEqual(export["typeProperties"]["sink"]["storeSettings"]["copyBehavior"], "PreserveHierarchy")

    def test_exports_the_extracted_folder_then_deletes_it(self):
        for name in ("Viva Insights data", "the directory"):
            extract, export = activities()[f"Extract {name}"], activities()[f"Export {name}"]
            delete = activities()[f"Delete the copy of {name}"]
            self.assertEqual(waits_for(export), [extract["name"]])
            self.assertEqual(waits_for(delete), [export["name"]])
            extracted = folder(extract["outputs"][0])[1]
            self.assertEqual(folder(export["inputs"][0]), ("Staging", extracted))
            self.assertEqual(folder(delete["typeProperties"]["dataset"]), ("Staging", extracted))
            self.assertIs(export["typeProperties"]["source"]["storeSettings"]["recursive"], True)
            self.assertIs(delete["typeProperties"]["storeSettings"]["recursive"], True)
            self.assertTrue(extracted.startswith(f"{RUN}/"))

    def test_a_lifecycle_rule_deletes_the_copy_after_a_failed_export(self):
        template = Template(given.MANAGED_APP, given.LEAST[given.MANAGED_APP])
        (policy,) = [each for each in template.resources() if each["type"].endswith("/managementPolicies")]
        (rule,) = policy["properties"]["policy"]["rules"]
        self.assertEqual(rule["definition"]["actions"]["baseBlob"]["delete"]["daysAfterModificationGreaterThan"], 2)

    def test_exports_the_directory_only_if_requested(self):
        for values, expected in ((given.LEAST, False), (given.EVERYTHING, True)):
            for name in ("Extract the directory", "Export the directory", "Delete the copy of the directory"):
                activity = activities(values)[name]
                self.assertIs(is_active(activity), expected)
                self.assertEqual(activity["onInactiveMarkAs"], "Succeeded")
        self.assertEqual(deployed()["Directory"]["properties"]["typeProperties"]["tableName"], "BasicDataSet_v0.User_v1")

    def test_notifies_the_partner_of_the_drop_path(self):
        notify = activities()["Notify the partner"]["typeProperties"]
        self.assertEqual(notify["method"], "POST")
        self.assertEqual(notify["url"], given.EVERYTHING[given.MANAGED_APP]["notifyUrl"])
        path = f"{given.CUSTOMER}/{RUN}/VivaInsights/{TENANT}"
        self.assertEqual(json.loads(notify["body"]["value"]), {"path": path})
        self.assertEqual(waits_for(activities()["Get the notify key"]), ["Export Viva Insights data"])
        self.assertEqual(waits_for(activities()["Notify the partner"]), ["Get the notify key"])

    def test_sends_no_notification_without_a_url_and_a_key(self):
        for missing in ({"notifyUrl", "notifyKey"}, {"notifyUrl"}, {"notifyKey"}, set()):
            values = {**given.EVERYTHING[given.MANAGED_APP], **dict.fromkeys(missing, "")}
            found = activities({given.MANAGED_APP: values})
            for name in ("Get the notify key", "Notify the partner"):
                with self.subTest(name, missing=missing):
                    self.assertIs(is_active(found[name]), not missing)
                    self.assertEqual(found[name]["onInactiveMarkAs"], "Succeeded")
        self.assertIs(is_active(activities(given.LEAST)["Notify the partner"]), False)

    def test_the_notify_key_is_not_logged(self):
        self.assertIs(activities()["Get the notify key"]["policy"]["secureOutput"], True)
        self.assertIs(activities()["Notify the partner"]["policy"]["secureInput"], True)

    def test_dependencies_exist(self):
        for activity in activities().values():
            self.assertLessEqual(set(waits_for(activity)), set(activities()))

    def test_references_exist(self):
        parts = deployed()
        for resource in parts.values():
            text = json.dumps(resource, default=str)
            for name, kind in re.findall(r'"referenceName": "([^"]+)", "type": "(\w+)Reference"', text):
                self.assertIn(name, parts)
                self.assertIn(kind.lower(), parts[name]["type"].lower())

    def test_runs_once_every_seven_days(self):
        recurrence = deployed()["EveryWeek"]["properties"]["typeProperties"]["recurrence"]
        self.assertEqual((recurrence["frequency"], recurrence["interval"]), ("Week", 1))
        self.assertEqual(recurrence["schedule"], {"weekDays": ["Tuesday"], "hours": [4], "minutes": [0]})


class Installer(unittest.TestCase):
    """Tests of `createUiDefinition.json`, the form in the portal."""

    TYPES = {
        "Microsoft.Common.PasswordBox": "securestring",
        "Microsoft.Common.TextBox": "string",
        "Microsoft.Common.DropDown": "string",
        "Microsoft.Common.CheckBox": "bool",
    }

    def setUp(self):
        self.definition = json.loads(given.USER_INTERFACE.read_text())["parameters"]
        self.template = Template(given.MANAGED_APP)
        self.controls = {
            (step["name"], control["name"]): control for step in self.definition["steps"] for control in step["elements"]
        }

    def test_outputs_are_the_parameters_of_the_template(self):
        self.assertEqual(set(self.definition["outputs"]), set(self.template.parameters))

    def test_outputs_have_the_types_of_the_parameters(self):
        for name, output in self.definition["outputs"].items():
            parameter = self.template.parameters[name]
            tree = parse(output[1:-1])
            with self.subTest(name):
                if tree[0] == "property" and tree[1][:2] == ("call", "steps"):
                    control = self.controls[(tree[1][2][0][1], tree[2])]
                    self.assertEqual(self.TYPES[control["type"]], parameter["type"])
                    allowed = [each["value"] for each in control.get("constraints", {}).get("allowedValues", [])]
                    self.assertEqual(allowed, parameter.get("allowedValues", []))
                    if "defaultValue" in control:
                        self.assertEqual(control["defaultValue"], parameter["defaultValue"])
                    if "defaultValue" not in parameter:
                        self.assertIs(control["constraints"]["required"], True)
                else:
                    self.assertIn(output, ("[location()]", "[subscription().tenantId]"))
                    self.assertEqual(parameter["type"], "string")

    def test_every_control_is_used(self):
        used = set()
        for output in self.definition["outputs"].values():
            tree = parse(output[1:-1])
            if tree[0] == "property" and tree[1][1] == "steps":
                used.add((tree[1][2][0][1], tree[2]))
        self.assertEqual(used, set(self.controls))

    def test_validates_input(self):
        guid = "00000000-0000-4000-8000-000000000001"
        sas = f"https://drops.blob.core.windows.net/{guid}?sv=2024-11-04&sp=cw&sig=abc%3D"
        for step, name, good, bad in (
            ("application", "appId", guid, "my app"),
            ("application", "appObjectId", guid, guid + "0"),
            ("partner", "partnerSasUrl", sas, sas.split("?")[0]),
            ("partner", "partnerSasUrl", sas, sas.replace("https", "http")),
            ("partner", "notifyUrl", "https://app.azurewebsites.net/api/notify", "http://app.azurewebsites.net/api/notify"),
            ("partner", "notifyUrl", "", "notify"),
        ):
            pattern = self.controls[(step, name)]["constraints"]["regex"]
            with self.subTest(name, bad=bad):
                self.assertRegex(good, pattern)
                self.assertNotRegex(bad, pattern)

    def test_uses_only_functions_of_the_portal(self):
        for output in self.definition["outputs"].values():
            for _, name, _ in calls_in(parse(output[1:-1])):
                self.assertIn(name, {"location", "steps", "subscription"})


class ManagedApplication(unittest.TestCase):
    def test_has_both_files_at_its_root_and_is_reproducible(self):
        pack = module("managed_app").pack
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        pack(given.MANAGED_APP.parent, folder / "first.zip")
        pack(given.MANAGED_APP.parent, folder / "second.zip")
        self.assertEqual((folder / "first.zip").read_bytes(), (folder / "second.zip").read_bytes())
        with zipfile.ZipFile(folder / "first.zip") as archive:
            self.assertEqual(sorted(archive.namelist()), ["createUiDefinition.json", "mainTemplate.json"])
            self.assertEqual(archive.read("mainTemplate.json"), given.MANAGED_APP.read_bytes())


if __name__ == "__main__":
    unittest.main()
