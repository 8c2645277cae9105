"""README's walk-through, by the client that was generated from docs/openapi.json: see `run`. API, S3, CLIENT_KEY and ADMIN_KEY are in the environment."""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.request
from typing import TypeVar

from wharfage_client import Client
from wharfage_client.api.accounts import (
    s3_cancel_payment_account_deletion,
    s3_create_account,
    s3_create_order,
    s3_delete_account,
    s3_delete_payment_account,
    s3_get_buckets,
    s3_get_files,
    s3_get_invoice,
    s3_get_users,
    s3_history,
    s3_list_invoices,
    s3_list_plans,
    s3_show_key,
)
from wharfage_client.api.administration import (
    s3_add_credit,
    s3_change_plan,
    s3_create_client,
    s3_create_plan,
)
from wharfage_client.api.sessions import auth, eq_callback
from wharfage_client.models import (
    AddCreditAnswer,
    AddCreditCall,
    AuthLoginAnswer,
    AuthLoginCall,
    BasisShownType2,
    CancelPaymentAccountDeletionAnswer,
    CancelPaymentAccountDeletionCall,
    ChangePlanAnswer,
    ChangePlanCall,
    CreateAccountAnswer,
    CreateAccountCall,
    CreateClientAnswer,
    CreateClientCall,
    CreateOrderAnswer,
    CreateOrderCall,
    CreatePlanAnswer,
    CreatePlanCall,
    DeleteAccountAnswer,
    DeleteAccountCall,
    DeletePaymentAccountAnswer,
    DeletePaymentAccountCall,
    EqCallbackCheckAnswer,
    EqCallbackCheckCall,
    GetBucketsAnswer,
    GetBucketsCall,
    GetFilesAnswer,
    GetFilesCall,
    GetInvoiceAnswer,
    GetInvoiceCall,
    GetUsersAnswer,
    GetUsersCall,
    HistoryAnswer,
    HistoryCall,
    ListInvoicesAnswer,
    ListInvoicesCall,
    ListPlansAnswer,
    ListPlansCall,
    Refusal,
    ShowKeyAnswer,
    ShowKeyCall,
)

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
API = os.environ["API"]
S3 = os.environ["S3"]
client = Client(base_url=API, raise_on_unexpected_status=True)
T = TypeVar("T")


def expect(kind: type[T], answer: object) -> T:
    assert isinstance(answer, kind), answer
    return answer


def log_in(key: str) -> str:
    answer = auth.sync(client=client, body=AuthLoginCall(action="login", key=key))
    return expect(AuthLoginAnswer, answer).result.token


def move_time(advance: str) -> None:
    """Only the local runner has this, so that no client has it."""
    body = json.dumps({"advance": advance}).encode()
    request = urllib.request.Request(f"{API}/_local/clock", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        moved = json.loads(response.read().splitlines()[-1])
    assert moved["failed"] == [], moved


def keys_of(token: str, s3uid: str) -> str:
    access = expect(ShowKeyAnswer, s3_show_key.sync(client=client, body=ShowKeyCall(token=token, s3_key="access_key", s3uid=s3uid)))
    secret = expect(ShowKeyAnswer, s3_show_key.sync(client=client, body=ShowKeyCall(token=token, s3_key="secret_key", s3uid=s3uid)))
    return f"{access.access_key}:{secret.secret_key}"


def put(keys: str, file: pathlib.Path, to: str) -> bool:
    command = ["curl", "-sS", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", keys]
    command += ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T", str(file), f"{S3}/{to}"]
    return subprocess.run(command, capture_output=True).returncode == 0


def users(token: str, client_id: int) -> GetUsersAnswer:
    return expect(GetUsersAnswer, s3_get_users.sync(client=client, body=GetUsersCall(token=token, id=client_id)))


def history(token: str, s3uid: str) -> list[str]:
    answer = s3_history.sync(client=client, body=HistoryCall(token=token, s3uid=s3uid))
    return [entry.action for entry in expect(HistoryAnswer, answer).history]


def order_upload_delete() -> None:
    refused = expect(Refusal, auth.sync(client=client, body=AuthLoginCall(action="login", key="nobody")))
    assert refused.code == -1 and refused.message == "auth/login: invalid key", refused
    token = log_in(os.environ["CLIENT_KEY"])
    plans = expect(ListPlansAnswer, s3_list_plans.sync(client=client, body=ListPlansCall(token=token))).plans
    assert (plans[0].id, plans[0].name) == (1, "Free"), plans

    order = s3_create_order.sync(client=client, body=CreateOrderCall(token=token, plan_id=2, bucket_name="my-first-bucket"))
    ordered = expect(CreateOrderAnswer, order)
    assert (ordered.status, ordered.location, ordered.bucket_name) == ("active", "NL", "my-first-bucket"), ordered
    s3uid = ordered.s3uid
    twice = s3_create_order.sync(client=client, body=CreateOrderCall(token=token, plan_id=2, bucket_name="my-first-bucket"))
    assert expect(Refusal, twice).message == "s3/create_order: bucket name is already taken", twice

    assert put(keys_of(token, s3uid), REPOSITORY / "LICENSE", "my-first-bucket/docs/LICENSE")
    search = GetFilesCall(token=token, bucket_name="my-first-bucket", s3uid=s3uid, search="license")
    [file] = expect(GetFilesAnswer, s3_get_files.sync(client=client, body=search)).files.files
    assert (file.key, file.size) == ("docs/LICENSE", (REPOSITORY / "LICENSE").stat().st_size), file
    buckets = expect(GetBucketsAnswer, s3_get_buckets.sync(client=client, body=GetBucketsCall(token=token, s3uid=s3uid)))
    assert [(bucket.name, bucket.objects) for bucket in buckets.message] == [("my-first-bucket", 1)], buckets
    mine = expect(GetUsersAnswer, s3_get_users.sync(client=client, body=GetUsersCall(token=token))).s3_users
    assert [account.s3uid for account in mine] == [s3uid], mine

    cancel = s3_delete_payment_account.sync(client=client, body=DeletePaymentAccountCall(token=token, s3uid=s3uid))
    cancelled = expect(DeletePaymentAccountAnswer, cancel).service
    assert cancelled.status == "cancelling" and cancelled.cancellation_date and cancelled.termination_date, cancelled
    keep = CancelPaymentAccountDeletionCall(token=token, s3uid=s3uid)
    kept = expect(CancelPaymentAccountDeletionAnswer, s3_cancel_payment_account_deletion.sync(client=client, body=keep))
    assert kept.service.status == "active" and kept.service.cancellation_date is None, kept
    entries = history(token, s3uid)
    assert entries[:2] == ["cancel_payment_account_deletion", "delete_payment_account"], entries

    delete = s3_delete_account.sync(client=client, body=DeleteAccountCall(token=token, s3uid=s3uid, reason="finished"))
    callback = expect(DeleteAccountAnswer, delete).callback
    for _ in range(60):
        answer = eq_callback.sync(client=client, body=EqCallbackCheckCall(action="check", key=callback))
        if expect(EqCallbackCheckAnswer, answer).result == "OK":
            break
        time.sleep(1)
    else:
        raise AssertionError(answer)


def bill_remind_suspend_correct() -> None:
    def staff() -> str:
        return log_in(os.environ["ADMIN_KEY"])

    token = staff()
    small = CreatePlanCall(
        token=token, name="Small", storage_type="Standard", locations="NL", quota=1, bandwidth_limit=10
    )
    # The contract has these as patterns of names, one for each currency.
    small["monthly_eur"] = "3.00"
    small["storage_overage_price_eur"] = small["traffic_overage_price_eur"] = "0.50"
    plan = expect(CreatePlanAnswer, s3_create_plan.sync(client=client, body=small)).plan
    ann = CreateClientCall(token=token, email="ann@example.com", billing="main", currency="EUR")
    client_id = expect(CreateClientAnswer, s3_create_client.sync(client=client, body=ann)).client.client_id
    paid = AddCreditCall(token=token, amount=5.0, reference="bank-1", id=client_id)
    credit = expect(AddCreditAnswer, s3_add_credit.sync(client=client, body=paid))
    assert (credit.credit, credit.owed, credit.paid) == (5.0, 0.0, []), credit

    account = CreateAccountCall(token=token, plan_id=plan.id, id=client_id, bucket_name="ann-data")
    s3uid = expect(CreateAccountAnswer, s3_create_account.sync(client=client, body=account)).s3uid
    assert [account.s3uid for account in users(token, client_id).s3_users] == [s3uid]
    keys = keys_of(token, s3uid)
    with tempfile.TemporaryDirectory() as folder:
        zeros = pathlib.Path(folder) / "zeros"
        with zeros.open("wb") as file:
            file.truncate(2 << 30)
        assert put(keys, zeros, "ann-data/zeros")

    move_time("P1M")
    token = staff()
    still_open = ListInvoicesCall(token=token, id=client_id, status="open")
    [open_invoice] = expect(ListInvoicesAnswer, s3_list_invoices.sync(client=client, body=still_open)).invoices
    ask = GetInvoiceCall(token=token, invoice_id=open_invoice.invoice_id)
    invoice = expect(GetInvoiceAnswer, s3_get_invoice.sync(client=client, body=ask)).invoice
    assert 3.0 < invoice.amount <= 3.5 and round(invoice.amount - invoice.open_, 2) == 2.0, invoice
    [overage] = [line.basis for line in invoice.lines if isinstance(line.basis, BasisShownType2)]
    assert overage.component == "storage" and int(overage.overage_byte_hours) > 0, overage

    move_time("P29D")
    token = staff()
    [suspended] = users(token, client_id).s3_users
    service = suspended.service
    assert (service.status, service.suspension, service.termination_reason) == ("suspended", "unpaid", "unpaid"), service
    assert service.termination_date is not None, service
    assert not put(keys, REPOSITORY / "LICENSE", "ann-data/LICENSE")

    for _ in range(2):
        more = AddCreditCall(token=token, amount=10.0, reference="bank-2", id=client_id)
        credit = expect(AddCreditAnswer, s3_add_credit.sync(client=client, body=more))
        assert credit.owed == 0.0 and 0 < credit.credit < 10, credit
    assert put(keys, REPOSITORY / "LICENSE", "ann-data/LICENSE")

    to_free = ChangePlanCall(token=token, plan_id=1, s3uid=s3uid, when="now")
    changed = expect(ChangePlanAnswer, s3_change_plan.sync(client=client, body=to_free))
    assert changed.plan_id == 1 and isinstance(changed.amount, float) and changed.amount < 0, changed
    entries = history(token, s3uid)
    assert entries[:2] == ["change_plan", "resume_account"], entries


order_upload_delete()
bill_remind_suspend_correct()
print("walkthrough.py: OK")
