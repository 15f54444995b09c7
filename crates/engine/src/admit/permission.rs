//! What a role may do, and whose things it may do it to. One page, so that it can be read as a table.

use domain::Role;

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See who one is, which models there are, what the API looks like.
    Enter,
    CallModels,
    SubmitJobs,
    ReadJobs,
    /// Answers may repeat prompts, which operators of the gateway need not see.
    ReadResults,
    /// Pause, resume, cancel.
    ManageJobs,
    /// Approve jobs that a guard paused or that cost much.
    ApproveJobs,
    /// Purge bodies and results.
    DeleteJobs,
    ReadLanes,
    ReadLimits,
    /// Declare, change and remove lanes, limits and budgets.
    ManageLimits,
    /// Ledger rows: tokens and money, no prompts.
    ReadCalls,
    ReadSpend,
    ReadTeams,
    ManageTeams,
    ManageKeys,
    /// Make and replace what a team's webhooks are signed with.
    ManageWebhookSecrets,
    /// Set charges of the ledger right.
    CorrectLedger,
    /// Who changed what.
    ReadAudit,
}

impl Permission {
    pub const ALL: [Self; 19] = [
        Self::Enter,
        Self::CallModels,
        Self::SubmitJobs,
        Self::ReadJobs,
        Self::ReadResults,
        Self::ManageJobs,
        Self::ApproveJobs,
        Self::DeleteJobs,
        Self::ReadLanes,
        Self::ReadLimits,
        Self::ManageLimits,
        Self::ReadCalls,
        Self::ReadSpend,
        Self::ReadTeams,
        Self::ManageTeams,
        Self::ManageKeys,
        Self::ManageWebhookSecrets,
        Self::CorrectLedger,
        Self::ReadAudit,
    ];

    pub fn is_held_by(self, role: Role) -> bool {
        use Role::{Finance, Operator, Read, Submit};
        match self {
            _ if role == Role::Admin => true,
            Self::Enter | Self::ReadSpend | Self::ReadCalls | Self::ReadTeams => true,
            Self::CallModels | Self::SubmitJobs | Self::DeleteJobs | Self::ManageWebhookSecrets => role == Submit,
            Self::ReadResults => matches!(role, Submit | Read),
            Self::ReadJobs | Self::ReadLanes => matches!(role, Submit | Read | Operator),
            Self::ManageJobs => matches!(role, Submit | Operator),
            Self::ReadLimits => matches!(role, Operator | Finance),
            Self::ReadAudit | Self::ApproveJobs | Self::CorrectLedger => role == Operator,
            Self::ManageLimits | Self::ManageTeams | Self::ManageKeys => false,
        }
    }

    /// Whether a role that holds it reaches over all teams.
    pub fn reaches_all_teams(self, role: Role) -> bool {
        match role {
            Role::Admin => true,
            Role::Finance => matches!(self, Self::ReadSpend | Self::ReadCalls | Self::ReadTeams | Self::ReadLimits),
            Role::Operator => {
                matches!(
                    self,
                    Self::ReadJobs
                        | Self::ManageJobs
                        | Self::ApproveJobs
                        | Self::ReadLanes
                        | Self::ReadLimits
                        | Self::ReadTeams
                        | Self::CorrectLedger
                        | Self::ReadAudit
                )
            }
            Role::Submit | Role::Read => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_submit_and_admin_can_spend_money() {
        let spenders = |permission: Permission| Role::ALL.map(|role| permission.is_held_by(role));
        let submit_and_admin = [true, false, false, false, true];
        assert_eq!(spenders(Permission::CallModels), submit_and_admin);
        assert_eq!(spenders(Permission::SubmitJobs), submit_and_admin);
    }

    #[test]
    fn a_role_reaches_over_teams_only_with_what_it_holds() {
        for role in Role::ALL {
            for permission in Permission::ALL {
                assert!(
                    permission.is_held_by(role) || !permission.reaches_all_teams(role),
                    "{role:?} reaches all teams with {permission:?}, which it does not hold"
                );
            }
        }
    }
}
