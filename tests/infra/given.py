"""The templates of `infra/`, with two sets of parameter values: only the required ones, and all."""

from .arm import ROOT, TENANT, Template

CUSTOMER = "00000000-0000-4000-8000-000000000001"
OBJECT = "00000000-0000-4000-8000-0000000000"

# Value of all secret parameters. The tests search for it in the evaluated templates.
SECRET = "MARKED-AS-SECRET"

# A queue in another subscription and resource group.
ENTITY = (
    "/subscriptions/00000000-0000-4000-8000-00000000000c/resourceGroups/messaging"
    "/providers/Microsoft.ServiceBus/namespaces/contoso/queues/rows"
)

PARTNER = ROOT / "infra/partner/mainTemplate.json"
SUBSCRIPTION = ROOT / "infra/partner/subscription.json"
MANAGED_APP = ROOT / "infra/customer/mainTemplate.json"
USER_INTERFACE = ROOT / "infra/customer/createUiDefinition.json"

LEAST = {
    PARTNER: {
        "tenants": f"{CUSTOMER}={CUSTOMER}",
        "deliverTo": "queue://rows",
        "alertEmail": "operators@example.com",
    },
    SUBSCRIPTION: {
        "functionApp": "vivadrop-app",
        "systemTopic": "vivadrop-drops",
        "hostStorage": "hostaccount",
        "deadLetterContainer": "dead-letters",
    },
    MANAGED_APP: {
        "appId": CUSTOMER,
        "appObjectId": f"{OBJECT}01",
        "appSecret": SECRET,
        "partnerSasUrl": f"https://drops.blob.core.windows.net/{CUSTOMER}?sv=2024-11-04&sig={SECRET}",
    },
}

EVERYTHING = {
    PARTNER: {
        **LEAST[PARTNER],
        "dropContainer": "datasets",
        "deliverTo": "https://rows.example.com/viva",
        "webhookSecret": SECRET,
        "partnerTenantId": TENANT,
        "partnerAppId": CUSTOMER,
        "partnerAppSecret": SECRET,
        "partnerAppObjectId": f"{OBJECT}02",
        "operatorObjectId": f"{OBJECT}03",
        "sinkQueueServiceUri": "https://rows.queue.core.windows.net",
        "serviceBusEntityId": ENTITY,
        "privateEndpoints": True,
    },
    SUBSCRIPTION: {**LEAST[SUBSCRIPTION], "dropContainer": "datasets"},
    MANAGED_APP: {
        **LEAST[MANAGED_APP],
        "notifyUrl": "https://vivadrop.example.com/api/notify",
        "notifyKey": SECRET,
        "exportDirectory": True,
    },
}


def templates():
    """Yields every template with each set of values."""
    for path in LEAST:
        for values in (LEAST[path], EVERYTHING[path]):
            yield Template(path, values)
