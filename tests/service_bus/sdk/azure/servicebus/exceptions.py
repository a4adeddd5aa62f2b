"""The exceptions of azure-servicebus 7 that the example handles."""


class ServiceBusError(Exception):
    pass


class MessageLockLostError(ServiceBusError):
    pass


class MessagingEntityNotFoundError(ServiceBusError):
    pass


class OperationTimeoutError(ServiceBusError):
    pass


class ServiceBusAuthenticationError(ServiceBusError):
    pass


class ServiceBusAuthorizationError(ServiceBusError):
    pass


class SessionLockLostError(ServiceBusError):
    pass
