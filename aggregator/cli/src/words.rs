//! The words of the field, for readers who are new to the field.

pub(crate) const GLOSSARY: &str = "\
license server   one installation that hands out licenses
license manager  the product that hands out licenses: FlexNet, RLM, LM-X, Citrix, ...
vendor daemon    a vendor's process under a FlexNet license manager
feature          the code of a licensed function in a log, such as XDT_PLT_UD
SKU              what is sold and reported; the catalogue maps features to SKUs
checkout         a client takes seats; a checkin returns them
denial           a checkout that was refused; repeats within five minutes count as one
session          one checkout with its checkin, or its implicit end
seat             one unit of a feature; a checkout can take several
identity         a user name as a log first wrote it; case does not matter
person           one or more identities that are the same by the rules; a person counts
                 once per month and SKU
held             a seat is held in every month that a session touches: one that is
                 returned at midnight on the first counts in the new month, too
realm            where the same bare user name means the same person; one by default
device           a host on which seats were held
log              what a license server writes to one place, over all rotations
complete         every license server has reported through the end of the month, and
                 nothing is known to be missing; silence is never zero
entitlement      the licenses that there are of a feature: how many, for which versions,
                 and through when; that says nothing of who uses them
pool             licenses that are told together, as one line of a license file
peak             the most seats in use at once; where several features or servers add
                 up, an upper bound, which a note below the table says
operator         who asks and changes things, by a role: a viewer sees no names of users,
                 a reporter does, an admin changes things
token            what an operator, or a program, is known by; made by a login, or for a
                 program; it ends
audit trail      what was changed, who read names, who was refused; only ever added to
alert            something that needs an operator, and has lasted
pseudonym        what an agent sends in place of a name, if it is told to";
