"""Who gets what from which endpoint: one row for each, one column for each kind of caller.

    ok      it is done
    none    it is done, and there is nothing of the row in the answer, as if there were none
    401     log in first
    403     not for you, whatever there is
    404     what is not yours is not there

The row that a request names belongs to `owner`. `other` is another customer. `read_key` is an API key of an admin for
reading this resource, `other_key` one for reading and writing another.
"""

TABLE = """
ENDPOINT                  anonymous owner     other     manager   admin     read_key  other_key
service.service           ok        ok        ok        ok        ok        ok        ok
service.resources         ok        ok        ok        ok        ok        ok        ok
service.livez             ok        ok        ok        ok        ok        ok        ok
service.readyz            ok        ok        ok        ok        ok        ok        ok
metrics                   ok        ok        ok        ok        ok        ok        ok
openapi                   ok        ok        ok        ok        ok        ok        ok
docs                      ok        ok        ok        ok        ok        ok        ok
docs_with_slash           ok        ok        ok        ok        ok        ok        ok
docs_file                 ok        ok        ok        ok        ok        ok        ok

auth.register             ok        ok        ok        ok        ok        ok        ok
auth.login                ok        ok        ok        ok        ok        ok        ok
auth.refresh              ok        ok        ok        ok        ok        ok        ok
auth.me                   401       ok        ok        ok        ok        ok        ok
auth.logout               401       ok        ok        ok        ok        403       403
auth.logout_everywhere    401       ok        ok        ok        ok        403       403
auth.change_password      401       ok        ok        ok        ok        403       403
auth.rename               401       ok        ok        ok        ok        403       403
auth.deactivate           401       ok        ok        ok        ok        403       403
auth.sessions             401       ok        none      none      none      403       403
auth.end_session          401       ok        404       404       404       403       403

api-keys.create_api_key   401       ok        ok        ok        ok        403       403
api-keys.list_api_keys    401       ok        none      none      none      403       403
api-keys.delete_api_key   401       ok        404       404       404       403       403

categories.list           ok        ok        ok        ok        ok        ok        ok
categories.get            ok        ok        ok        ok        ok        ok        ok
categories.aggregate      ok        ok        ok        ok        ok        ok        ok
categories.history        401       403       403       ok        ok        ok        403
categories.export_rows    401       403       403       ok        ok        ok        403
categories.create         401       403       403       ok        ok        403       403
categories.replace        401       403       403       ok        ok        403       403
categories.patch          401       403       403       ok        ok        403       403
categories.delete         401       403       403       ok        ok        403       403
categories.restore        401       403       403       ok        ok        403       403
categories.revert         401       403       403       ok        ok        403       403
categories.bulk_create    401       403       403       ok        ok        403       403
categories.bulk_update    401       403       403       ok        ok        403       403
categories.bulk_delete    401       403       403       ok        ok        403       403
categories.update_where   401       403       403       ok        ok        403       403
categories.delete_where   401       403       403       ok        ok        403       403
categories.import_rows    401       403       403       ok        ok        403       403

tags.list                 ok        ok        ok        ok        ok        ok        ok
tags.get                  ok        ok        ok        ok        ok        ok        ok
tags.aggregate            ok        ok        ok        ok        ok        ok        ok
tags.export_rows          401       403       403       ok        ok        ok        403
tags.create               401       403       403       ok        ok        403       403
tags.replace              401       403       403       ok        ok        403       403
tags.patch                401       403       403       ok        ok        403       403
tags.delete               401       403       403       ok        ok        403       403
tags.restore              401       403       403       ok        ok        403       403
tags.bulk_create          401       403       403       ok        ok        403       403
tags.bulk_update          401       403       403       ok        ok        403       403
tags.bulk_delete          401       403       403       ok        ok        403       403
tags.update_where         401       403       403       ok        ok        403       403
tags.delete_where         401       403       403       ok        ok        403       403
tags.import_rows          401       403       403       ok        ok        403       403

products.list             ok        ok        ok        ok        ok        ok        ok
products.get              ok        ok        ok        ok        ok        ok        ok
products.aggregate        ok        ok        ok        ok        ok        ok        ok
products.history          401       403       403       ok        ok        ok        403
products.export_rows      401       403       403       ok        ok        ok        403
products.create           401       403       403       ok        ok        403       403
products.replace          401       403       403       ok        ok        403       403
products.patch            401       403       403       ok        ok        403       403
products.delete           401       403       403       ok        ok        403       403
products.restore          401       403       403       ok        ok        403       403
products.revert           401       403       403       ok        ok        403       403
products.bulk_create      401       403       403       ok        ok        403       403
products.bulk_update      401       403       403       ok        ok        403       403
products.bulk_delete      401       403       403       ok        ok        403       403
products.update_where     401       403       403       ok        ok        403       403
products.delete_where     401       403       403       ok        ok        403       403
products.import_rows      401       403       403       ok        ok        403       403

roles.list                401       403       403       ok        ok        ok        403
roles.get                 401       403       403       ok        ok        ok        403
roles.aggregate           401       403       403       ok        ok        ok        403
roles.export_rows         401       403       403       403       ok        ok        403
roles.create              401       403       403       403       ok        403       403
roles.replace             401       403       403       403       ok        403       403
roles.patch               401       403       403       403       ok        403       403
roles.delete              401       403       403       403       ok        403       403
roles.restore             401       403       403       403       ok        403       403
roles.bulk_create         401       403       403       403       ok        403       403
roles.bulk_update         401       403       403       403       ok        403       403
roles.bulk_delete         401       403       403       403       ok        403       403
roles.update_where        401       403       403       403       ok        403       403
roles.delete_where        401       403       403       403       ok        403       403
roles.import_rows         401       403       403       403       ok        403       403

users.list                401       ok        none      ok        ok        ok        403
users.get                 401       ok        404       ok        ok        ok        403
users.aggregate           401       ok        none      ok        ok        ok        403
users.history             401       ok        404       404       ok        ok        403
users.export_rows         401       ok        none      ok        ok        ok        403
users.create              401       403       403       403       ok        403       403
users.replace             401       ok        404       403       ok        403       403
users.patch               401       ok        404       403       ok        403       403
users.delete              401       403       403       403       ok        403       403
users.restore             401       403       403       403       ok        403       403
users.revert              401       ok        404       403       ok        403       403
users.bulk_create         401       403       403       403       ok        403       403
users.bulk_update         401       ok        404       403       ok        403       403
users.bulk_delete         401       403       403       403       ok        403       403
users.update_where        401       ok        none      none      ok        403       403
users.delete_where        401       403       403       403       ok        403       403
users.import_rows         401       403       403       403       ok        403       403

orders.list               401       ok        none      ok        ok        ok        403
orders.get                401       ok        404       ok        ok        ok        403
orders.aggregate          401       ok        none      ok        ok        ok        403
orders.history            401       ok        404       ok        ok        ok        403
orders.export_rows        401       ok        none      ok        ok        ok        403
orders.create             401       ok        ok        ok        ok        403       403
orders.replace            401       ok        404       ok        ok        403       403
orders.patch              401       ok        404       ok        ok        403       403
orders.delete             401       403       403       ok        ok        403       403
orders.restore            401       403       403       ok        ok        403       403
orders.revert             401       ok        404       ok        ok        403       403
orders.bulk_create        401       ok        ok        ok        ok        403       403
orders.bulk_update        401       ok        404       ok        ok        403       403
orders.bulk_delete        401       403       403       ok        ok        403       403
orders.update_where       401       ok        none      ok        ok        403       403
orders.delete_where       401       403       403       ok        ok        403       403
"""

ROLES, *_ROWS = (line.split() for line in TABLE.splitlines() if line)
ROLES = ROLES[1:]

EXPECTED: dict[str, dict[str, str]] = {
    endpoint: dict(zip(ROLES, outcomes, strict=True)) for endpoint, *outcomes in _ROWS
}
"""Outcomes by role, by endpoint."""
