# Image with vivadrop and the Azure Functions host, for Premium plans and Container Apps.
#
#   make package && docker build --tag vivadrop .
#
# The base image is the one that Microsoft recommends for custom handlers. It contains the host. (`func init` still writes
# `azure-functions/dotnet:4`, the image of the in-process model for .NET, whose support ended in November 2026.)
# `make package` creates and checks the app in `dist/`.
#
# The base is named by tag, because this repository does not track its digests. For builds that can be repeated, pass the digest
# that `docker buildx imagetools inspect mcr.microsoft.com/azure-functions/base:4` prints, and renew it with every update of the
# base, which Microsoft publishes monthly:
#
#   docker build --build-arg BASE_IMAGE=mcr.microsoft.com/azure-functions/base@sha256:DIGEST --tag vivadrop .
ARG BASE_IMAGE=mcr.microsoft.com/azure-functions/base:4
FROM ${BASE_IMAGE}

# checkov:skip=CKV_DOCKER_7:The default of BASE_IMAGE has a version tag; checkov does not read it
# checkov:skip=CKV_DOCKER_2:The platform monitors the host itself and ignores Docker health checks
# checkov:skip=CKV_DOCKER_3:The host in the base image listens on port 80 and must start as root; the platform isolates the container

ENV AzureWebJobsScriptRoot=/home/site/wwwroot \
    AzureFunctionsJobHost__Logging__Console__IsEnabled=true \
    FUNCTIONS_WORKER_RUNTIME=custom

COPY dist/linux-x86_64/ /home/site/wwwroot/
