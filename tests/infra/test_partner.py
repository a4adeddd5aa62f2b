"""Tests of the partner's templates: they configure what the handler depends on."""

import unittest

from . import given
from .arm import GROUP, Mistake, Template
from .test_templates import ROLES

# Built-in roles that permit reading the messages of a queue or of Service Bus, some of them because they permit reading the
# account's keys. https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
READING_MESSAGES = {
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "19e7f393-937e-4f77-808e-94535e297925": "Storage Queue Data Reader",
    "8a0f0c08-91a1-4084-bc3d-661d67233fed": "Storage Queue Data Message Processor",
    "17d1049b-9a84-46fb-8f53-869881c3d3ab": "Storage Account Contributor",
    "81a9662b-bebf-436f-a333-f67b29880f12": "Storage Account Key Operator Service Role",
    "090c5cfd-751d-490a-894a-3ce6f1109419": "Azure Service Bus Data Owner",
    "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0": "Azure Service Bus Data Receiver",
    "b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
}
OPERATOR = f"{given.OBJECT}03"


class PartnerTemplates(unittest.TestCase):
    def resources(self, kind, path=given.PARTNER, values=None):
        """The deployed resources of this type; without `values`, those with all parameters."""
        found = Template(path, values or given.EVERYTHING[path]).resources()
        return [resource for resource in found if resource["type"] == kind]

    def test_the_app_runs_on_flex_consumption(self):
        (plan,) = self.resources("Microsoft.Web/serverfarms")
        (app,) = self.resources("Microsoft.Web/sites")
        self.assertEqual(plan["sku"], {"name": "FC1", "tier": "FlexConsumption"})
        self.assertEqual(app["properties"]["functionAppConfig"]["runtime"], {"name": "custom", "version": "1.0"})

    def rules(self, **values):
        """The lifecycle rules, each with its days and its paths."""
        (policy,) = self.resources(
            "Microsoft.Storage/storageAccounts/managementPolicies", values={**given.LEAST[given.PARTNER], **values}
        )
        rules = policy["properties"]["policy"]["rules"]
        self.assertEqual(len({rule["name"] for rule in rules}), len(rules))
        return [
            (
                rule["definition"]["actions"]["baseBlob"]["delete"]["daysAfterModificationGreaterThan"],
                rule["definition"]["filters"]["prefixMatch"],
            )
            for rule in rules
        ]

    def test_drops_are_deleted_after_retention_days(self):
        for values, paths in (
            ({"tenants": "one=contoso, two=fabrikam/viva"}, ["contoso/", "fabrikam/viva/"]),
            ({"tenants": "ONE, two=fabrikam,", "dropPaths": ["contoso/"]}, ["one/", "fabrikam/", "contoso/"]),
            ({"dropContainer": "datasets", "tenants": "one,two"}, ["datasets/"]),
            ({"tenants": "@tenants.json", "dropPaths": ["contoso/"]}, ["contoso/"]),
        ):
            with self.subTest(values):
                self.assertEqual(self.rules(retentionDays=14, **values)[1:], [(14, paths)])
        self.assertEqual(self.rules(tenants='{"one": {"path": "contoso=x"}}')[1:], [])

    def test_records_are_kept_for_longer_than_a_sweep_starts_drops_and_longer_than_the_drops(self):
        # The entries in `unfinished/` and the registrations in `tenants/` are kept.
        state = ["vivadrop-state/drops/", "vivadrop-state/list/"]
        for retention, days in ((8, 190), (30, 190), (161, 191), (365, 395)):
            self.assertEqual(self.rules(retentionDays=retention)[0], (days, state))
        self.assertEqual(self.rules()[0], (190, state))

    def many(self, count):
        """As many tenants, each with a container of its own."""
        return ",".join(f"t{number}=container{number}" for number in range(count))

    def test_retention_applies_to_as_many_customers_as_azure_has_rules_for(self):
        _records, *drops = self.rules(tenants=self.many(25))
        self.assertEqual([(days, len(paths)) for days, paths in drops], [(30, 10), (30, 10), (30, 5)])
        self.assertEqual([path for _, paths in drops for path in paths], [f"container{number}/" for number in range(25)])
        self.assertEqual(len(self.rules(tenants=self.many(990))), 100)

    def test_more_customers_than_azure_has_rules_for_are_rejected_with_the_reason(self):
        for values in ({"tenants": self.many(991)}, {"tenants": self.many(990), "dropPaths": ["contoso/"]}):
            with self.assertRaisesRegex(Mistake, "have 991 paths, but .* 990 at most"):
                self.rules(**values)
        # A container that all customers share needs one path.
        self.assertEqual(self.rules(tenants=self.many(991), dropContainer="datasets")[1:], [(30, ["datasets/"])])

    def test_without_private_endpoints_nothing_of_the_network_is_deployed(self):
        found = Template(given.PARTNER, given.LEAST[given.PARTNER]).resources()
        self.assertEqual([each["id"] for each in found if each["type"].startswith("Microsoft.Network/")], [])
        (app,) = [each for each in found if each["type"] == "Microsoft.Web/sites"]
        self.assertIsNone(app["properties"]["virtualNetworkSubnetId"])
        for resource in found:
            if resource["type"] in ("Microsoft.Storage/storageAccounts", "Microsoft.KeyVault/vaults"):
                self.assertEqual(resource["properties"]["publicNetworkAccess"], "Enabled")
                self.assertEqual(resource["properties"]["networkAcls"]["defaultAction"], "Allow")

    def test_with_private_endpoints_storage_and_vault_have_no_public_access(self):
        drops, host = sorted(self.resources("Microsoft.Storage/storageAccounts"), key=lambda each: each["name"])
        (vault,) = self.resources("Microsoft.KeyVault/vaults")
        for resource in (drops, vault):
            self.assertEqual(resource["properties"]["publicNetworkAccess"], "Disabled", resource["name"])
        # Event Grid cannot use a private endpoint: it writes dead letters as a trusted service.
        self.assertEqual(host["properties"]["publicNetworkAccess"], "Enabled")
        self.assertEqual(host["properties"]["networkAcls"], {"bypass": "AzureServices", "defaultAction": "Deny"})
        for resource in (drops, vault):
            self.assertEqual(resource["properties"]["networkAcls"]["defaultAction"], "Deny")
        # Event Grid and the customers' Data Factories call the app over the internet.
        (app,) = self.resources("Microsoft.Web/sites")
        self.assertEqual(app["properties"]["publicNetworkAccess"], "Enabled")

    def test_the_app_resolves_and_reaches_every_private_endpoint(self):
        (network,) = self.resources("Microsoft.Network/virtualNetworks")
        subnets = {each["name"]: each["properties"] for each in network["properties"]["subnets"]}
        (app,) = self.resources("Microsoft.Web/sites")
        self.assertEqual(app["properties"]["virtualNetworkSubnetId"], f"{network['id']}/subnets/app")
        # Flex Consumption joins a subnet that is delegated to Container Apps environments.
        (delegation,) = subnets["app"]["delegations"]
        self.assertEqual(delegation["properties"]["serviceName"], "Microsoft.App/environments")

        zones = {each["id"]: each["name"] for each in self.resources("Microsoft.Network/privateDnsZones")}
        links = self.resources("Microsoft.Network/privateDnsZones/virtualNetworkLinks")
        self.assertEqual({each["name"].split("/")[0] for each in links}, set(zones.values()))
        for link in links:
            self.assertEqual(link["properties"]["virtualNetwork"]["id"], network["id"])

        zone_of = {}
        for group in self.resources("Microsoft.Network/privateEndpoints/privateDnsZoneGroups"):
            (config,) = group["properties"]["privateDnsZoneConfigs"]
            zone_of[group["name"].split("/")[0]] = zones[config["properties"]["privateDnsZoneId"]]
        reached = set()
        for endpoint in self.resources("Microsoft.Network/privateEndpoints"):
            self.assertEqual(endpoint["properties"]["subnet"]["id"], f"{network['id']}/subnets/endpoints")
            (connection,) = endpoint["properties"]["privateLinkServiceConnections"]
            target = connection["properties"]["privateLinkServiceId"].rsplit("/", 1)[1].rstrip("0123456789abcdef-")
            (service,) = connection["properties"]["groupIds"]
            reached.add((target, service, zone_of[endpoint["name"]]))
        storage = "privatelink.{}.core.windows.net"
        self.assertEqual({(target[:4], service, zone) for target, service, zone in reached}, {
            *(("drop", each, storage.format(each)) for each in ("blob", "dfs", "queue")),
            *(("host", each, storage.format(each)) for each in ("blob", "queue", "table")),
            ("vaul", "vault", "privatelink.vaultcore.azure.net"),
        })

    def test_the_app_starts_after_its_private_endpoints_can_be_resolved(self):
        (settings,) = self.resources("Microsoft.Web/sites/config")
        for group in self.resources("Microsoft.Network/privateEndpoints/privateDnsZoneGroups"):
            self.assertIn(group["id"], settings["dependsOn"])

    def test_only_events_of_drops_are_sent(self):
        for values, subject in (
            (given.LEAST, "/blobServices/default/containers/"),
            (given.EVERYTHING, "/blobServices/default/containers/datasets/"),
        ):
            (subscription,) = self.resources(
                "Microsoft.EventGrid/systemTopics/eventSubscriptions", given.SUBSCRIPTION, values[given.SUBSCRIPTION]
            )
            event_filter = subscription["properties"]["filter"]
            self.assertEqual(event_filter["includedEventTypes"], ["Microsoft.Storage.BlobCreated"])
            self.assertEqual(event_filter["subjectBeginsWith"], subject)
            apis, state = event_filter["advancedFilters"]
            # `CreateFile` is excluded: it announces a Data Lake Storage file that is still empty.
            self.assertEqual(set(apis["values"]), {"PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose", "SftpCommit"})
            self.assertEqual(state["operatorType"], "StringNotBeginsWith")
            self.assertEqual(state["values"], ["/blobServices/default/containers/vivadrop-state/"])

    def test_events_go_to_the_function_of_the_package(self):
        (subscription,) = self.resources(
            "Microsoft.EventGrid/systemTopics/eventSubscriptions", given.SUBSCRIPTION, given.LEAST[given.SUBSCRIPTION]
        )
        url = subscription["properties"]["destination"]["properties"]["endpointUrl"]
        self.assertIn("/runtime/webhooks/blobs?functionName=Host.Functions.function&code=<listKeys(", url)
        self.assertIn(f"listKeys({GROUP}/providers/Microsoft.Web/sites/vivadrop-app/host/default)", url)
        self.assertTrue((given.ROOT / "function/function.json").is_file())

    def test_undelivered_events_are_dead_lettered(self):
        (subscription,) = self.resources(
            "Microsoft.EventGrid/systemTopics/eventSubscriptions", given.SUBSCRIPTION, given.LEAST[given.SUBSCRIPTION]
        )
        dead = subscription["properties"]["deadLetterWithResourceIdentity"]["deadLetterDestination"]["properties"]
        containers = self.resources("Microsoft.Storage/storageAccounts/blobServices/containers")
        self.assertTrue(any(each["name"].endswith(f"/{dead['blobContainerName']}") for each in containers))

    def test_outputs_are_the_parameters_of_the_subscription(self):
        outputs = set(Template(given.PARTNER, given.LEAST[given.PARTNER]).outputs())
        required = {name for name, each in Template(given.SUBSCRIPTION).parameters.items() if "defaultValue" not in each}
        self.assertLessEqual(required, outputs)

    def test_alert_queries_match_lines_that_the_handler_logs(self):
        source = "".join(path.read_text() for path in (given.ROOT / "src").rglob("*.rs"))
        # Line breaks in the source do not matter.
        source = " ".join(source.split())
        for query, looks_for, logged in (
            ("setAsideQuery", "startswith 'set aside'", '"set aside'),
            ("setAsideQuery", "tostring(line.level) == 'ERROR'", "error!(drop.path"),
            ("silentQuery", "startswith 'completed `'", '"completed `{path}`'),
            ("lapseQuery", "'vivadrop onboard --rotate'", "`vivadrop onboard --rotate --tenant {tenant}`"),
            ("lapseQuery", "tostring(line.level) == 'WARN'", "warn!( tenant = %tenant"),
            ("notStartedQuery", "settings? (is|are) not usable", "settings are not usable"),
            ("notStartedQuery", "startswith 'could not finish'", '"could not finish: {'),
        ):
            with self.subTest(looks_for):
                self.assertIn(looks_for, Template(given.PARTNER).variables[query])
                self.assertTrue(logged in source, f"no source file has {logged}")
        for field in ("drop.path = %path", "%reason"):
            self.assertTrue(field in source, f"no log line has {field}")

    def test_alerts_count_each_log_line_once(self):
        # Lines can arrive minutes late: the query selects by ingestion time, in a window that is long enough.
        for rule in self.resources("Microsoft.Insights/scheduledQueryRules"):
            properties = rule["properties"]
            if properties["evaluationFrequency"] == "P1D":
                continue  # lines that every sweep repeats are counted once a day
            self.assertEqual((properties["evaluationFrequency"], properties["windowSize"]), ("PT15M", "PT1H"))
            self.assertIn("ingestion_time() > ago(15m)", properties["criteria"]["allOf"][0]["query"])

    def test_the_role_for_service_bus_is_assigned_in_the_group_of_the_entity(self):
        kind = "Microsoft.Resources/deployments"
        (deployment,) = self.resources(kind)
        self.assertEqual(deployment["subscriptionId"], given.ENTITY.split("/")[2])
        self.assertEqual(deployment["resourceGroup"], "messaging")
        self.assertEqual(self.resources(kind, values=given.LEAST[given.PARTNER]), [])

    def test_the_operator_may_send_to_the_sinks_to_which_the_app_may(self):
        kind, app = "Microsoft.Authorization/roleAssignments", "/sites/"
        # The app may also create a queue.
        service_bus_role = "Azure Service Bus Data Sender"
        app_roles = {"Storage Queue Data Contributor", service_bus_role}
        operator_roles = {"Storage Queue Data Message Sender", service_bus_role}
        for service_bus in (False, True):
            for named in (False, True):
                values = {**given.LEAST[given.PARTNER], "operatorType": "Group"}
                values |= {"serviceBusEntityId": given.ENTITY} if service_bus else {}
                values |= {"operatorObjectId": OPERATOR} if named else {}
                found = self.resources(kind, values=values)
                # The host storage has no sink.
                found = [each for each in found if "/storageAccounts/host" not in each["scope"]]

                def scopes(principal, roles):
                    return {
                        each["scope"]
                        for each in found
                        if principal in str(each["properties"]["principalId"])
                        and ROLES[each["properties"]["roleDefinitionId"].rsplit("/", 1)[1]] in roles
                    }

                with self.subTest(service_bus=service_bus, operator=named):
                    self.assertEqual(len(scopes(app, app_roles)), 1 + service_bus)
                    self.assertEqual(scopes(OPERATOR, operator_roles), scopes(app, app_roles) if named else set())
                for each in found:
                    if each["properties"]["principalId"] == OPERATOR:
                        self.assertEqual(each["properties"]["principalType"], "Group")

    def test_no_role_of_the_operator_permits_reading_messages(self):
        # Messages have decrypted rows, and nothing logs who reads or deletes them.
        assigned = self.resources("Microsoft.Authorization/roleAssignments")
        assigned = [each["properties"] for each in assigned if each["properties"]["principalId"] == OPERATOR]
        roles = {each["roleDefinitionId"].rsplit("/", 1)[1] for each in assigned}
        self.assertGreater(len(roles), 4)
        self.assertEqual([READING_MESSAGES[role] for role in roles if role in READING_MESSAGES], [])

    def test_the_queue_of_the_sink_is_created_in_the_drop_storage(self):
        kind = "Microsoft.Storage/storageAccounts/queueServices/queues"
        for values, names in (
            ({"deliverTo": "queue://viva-rows"}, ["default/viva-rows"]),
            ({"deliverTo": "queue://viva-rows", "sinkQueueServiceUri": "https://rows.queue.core.windows.net"}, []),
            ({"deliverTo": "servicebus://contoso/rows"}, []),
            ({"deliverTo": "https://rows.example.com/queue://rows"}, []),
        ):
            found = self.resources(kind, values={**given.LEAST[given.PARTNER], **values})
            with self.subTest(values):
                self.assertEqual([each["name"].split("/", 1)[1] for each in found], names)
            for queue in found:
                account = queue["id"].split("/queueServices/")[0]
                self.assertIn("/storageAccounts/drops", account)
                self.assertEqual(queue["dependsOn"], [account])

    def test_every_alert_goes_to_the_operators(self):
        (group,) = self.resources("Microsoft.Insights/actionGroups")
        alerts = self.resources("Microsoft.Insights/scheduledQueryRules") + self.resources("Microsoft.Insights/metricAlerts")
        self.assertEqual(len(alerts), 6)
        for alert in alerts + self.resources("Microsoft.EventGrid/systemTopics/eventSubscriptions"):
            with self.subTest(alert["name"]):
                self.assertIn(group["id"], str(alert["properties"]))


if __name__ == "__main__":
    unittest.main()
