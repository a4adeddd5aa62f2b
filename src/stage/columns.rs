//! The names of the columns with metrics.
//!
//! Sources: the partner integration page ("Supported metrics"), the v0 schema and sample, and the PersonReport_v1
//! schema of the Data Connect solutions, and the spellings in its sample.

/// The column whose values are booleans.
pub const IS_ACTIVE: &str = "IsActive";

/// The columns whose values are numbers.
#[rustfmt::skip]
pub const METRICS: &[&str] = &[
    "AfterHoursCollaboration", "AfterHoursCollaborationEmails", "AfterHoursCollaborationInstantMessages",
    "AfterHoursCollaborationMeetings", "AfterHoursCollaborationScheduledCalls", "AfterHoursCollaborationAdhocCalls",
    "CollaborationHours", "CollaborationHoursEmails", "CollaborationHoursExternal",
    "CollaborationHoursInstantMessages", "CollaborationHoursMeetings", "CollaborationHoursScheduledCalls",
    "CollaborationHoursAdhocCalls", "ConflictingMeetingHours", "DirectManagerMeetingHours", "OneOnOneMeetingHours",
    "SkipLevelMeetingHours", "TotalFocusHours", "MultitaskingMeetingHours", "UninterruptedHours", "InfluenceScore",
    "After-hours collaboration hours", "After-hours email hours", "After-hours chat hours",
    "After-hours meeting hours", "After-hours scheduled call hours", "After-hours unscheduled call hours",
    "Collaboration hours", "Email hours", "Chat hours", "Meeting hours", "Scheduled call hours",
    "Unscheduled call hours", "Conflicting meeting hours", "Meetings with manager 1:1", "After-hours call hours",
    "Call hours", "Multitasking hours", "Emails sent", "Meetings", "Chats sent", "Calls", "Meeting and call hours",
    "Weekend emails sent", "Weekend chats sent", "Weekend meetings", "Unscheduled weekend calls",
    "Urgent email hours", "Urgent meeting hours", "Small-group meeting call and chat hours",
    "Small-group emails sent excluding manager", "Small-group chats sent excluding manager",
    "Internal meeting hours with 3 to 8 attendees", "Internal meeting hours without manager 1:1",
    "Unscheduled call hours with manager 1:1", "Unscheduled call hours with manager",
    "Collaboration hours with direct reports", "Small-group emails sent including manager",
    "Small-group chats sent including manager", "Manager coaching hours 1:1", "Meeting hours with manager",
    "Meeting hours with manager 1:1", "Meetings with manager", "Meetings with skip level",
    "Meeting hours with skip level", "Internal network size", "External collaboration hours",
    "External unscheduled call hours", "External email hours", "External chat hours", "External meeting hours",
    "Available-to-focus hours", "Uninterrupted hours", "Interrupted hours", "Small and short meeting hours",
    "Small and short recurring meeting hours", "Large and long meeting hours",
    "Large and long recurring meeting hours", "Large and short meeting hours",
    "Large and short recurring meeting hours", "Small and long meeting hours",
    "Small and long recurring meeting hours", "Recurring meeting hours", "Working-hours collaboration hours",
    "Working-hours email hours", "Working-hours call hours", "Working-hours chat hours",
    "Working-hours meeting hours", "Small-group meeting, call, and chat hours",
    "Small-group emails sent, excluding manager", "Small-group emails sent, including manager",
    "Small-group chats sent, including manager",
];
