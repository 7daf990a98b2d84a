//! `[routing]`: whose mail a message is. Floor 5.

use egret_shared::config::Section;

use crate::routing::label::{HeaderName, Label, LabelHeaders};

egret_shared::config_value_from_str!(HeaderName => "a header's name", Label => "a tenant");

pub(super) fn labels(root: &Section<'_>) -> LabelHeaders {
    let section = root.section("routing");
    let headers = LabelHeaders {
        tenant: section.optional(
            "tenant_header",
            "The header that names the tenant of a message, like \"X-Tenant\". Each tenant has scheduled queues of its own and its turn. Its value has 1 to 64 letters, digits or `._-+=`, in any case; a message with another value, or with two such headers, is refused.",
        ),
        campaign: section.optional(
            "campaign_header",
            "The header that names the campaign of a message, like \"X-Campaign\"; as for tenants.",
        ),
        remove: section.with_default(
            "remove_headers",
            "true",
            "Whether these headers are taken out of the message. A signature that covers them would break.",
        ),
        default_tenant: section
            .optional("default_tenant", "The tenant of messages that name none. Reports that this host writes have none."),
    };
    let same = |a: &HeaderName, b: &HeaderName| a.to_string().eq_ignore_ascii_case(&b.to_string());
    if let (Some(tenant), Some(campaign)) = (&headers.tenant, &headers.campaign)
        && same(tenant, campaign)
    {
        section.complain("campaign_header", "is the tenant_header, too; they are two headers");
    }
    headers
}
