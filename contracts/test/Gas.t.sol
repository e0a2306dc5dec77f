// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, IEscrow, StartItem, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {PriceList} from "./PriceList.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice What each transaction costs with the bytecode that is deployed, kept in test/gas. `npm run gas` writes the
/// files anew, `npm run gas:check` fails where a figure is another one.
/// @dev Balances that a running marketplace has (renters', providers', the treasury's) are above 0 before.
contract GasTest is Fixture, PriceList {
    uint256 private constant BATCH = 100;
    uint256 private constant PERMIT_KEY = 0xA11CE;

    StartItem[] private _starts;
    CloseItem[] private _ends;
    Terms[] private _batch;

    function setUp() public override {
        super.setUp();
        _warm(provider, address(usdc));
        _warm(provider, NATIVE);
    }

    function test_LockErc20() public {
        _measure("lock ERC-20", renter, abi.encodeCall(escrow.lock, (_terms(), DEPOSIT)));
    }

    function test_LockNative() public {
        bytes memory input = abi.encodeCall(escrow.lock, (_terms(NATIVE, "native"), DEPOSIT));
        _measure("lock native", 1, renter, address(escrow), DEPOSIT, input);
    }

    function test_LockWithPermit() public {
        Terms memory t = _terms();
        t.renter = vm.addr(PERMIT_KEY);
        usdc.mint(t.renter, 2 * DEPOSIT);
        bytes32 permit = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                t.renter,
                address(escrow),
                uint256(DEPOSIT),
                uint256(0),
                uint256(T0)
            )
        );
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", usdc.DOMAIN_SEPARATOR(), permit));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PERMIT_KEY, digest);
        _measure("lock permit", t.renter, abi.encodeCall(escrow.lockWithPermit, (t, DEPOSIT, T0, v, r, s)));
    }

    function test_TopUpErc20() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        _measure("topUp ERC-20", renter, abi.encodeCall(escrow.topUp, (t, DEPOSIT)));
    }

    function test_Start() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        _measure("start", operator, abi.encodeCall(escrow.start, (t, T0)));
    }

    function test_Release() public {
        Terms memory t = _running(address(usdc));
        _measure("release", stranger, abi.encodeCall(escrow.release, (t)));
    }

    function test_CloseErc20() public {
        Terms memory t = _running(address(usdc));
        _measure("close ERC-20", operator, abi.encodeCall(escrow.close, (t, T0 + 1 hours, 60)));
    }

    function test_CloseNative() public {
        Terms memory t = _running(NATIVE);
        _measure("close native", operator, abi.encodeCall(escrow.close, (t, T0 + 1 hours, 60)));
    }

    function test_StopByRenter() public {
        Terms memory t = _running(address(usdc));
        _measure("stop by renter", renter, abi.encodeCall(escrow.stop, (t)));
    }

    function test_Cancel() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        _measure("cancel", provider, abi.encodeCall(escrow.cancel, (t)));
    }

    function test_Reclaim() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        skip(1 days);
        _measure("reclaim", renter, abi.encodeCall(escrow.reclaim, (t)));
    }

    function test_WithdrawErc20() public {
        usdc.mint(provider, 1);
        _measure("withdraw ERC-20", provider, abi.encodeCall(escrow.withdraw, (address(usdc), provider, 100)));
    }

    function test_WithdrawNative() public {
        vm.deal(provider, 1);
        _measure("withdraw native", provider, abi.encodeCall(escrow.withdraw, (NATIVE, provider, 100)));
    }

    function test_StartBatch() public {
        _lockBatch(address(usdc), BATCH);
        _measureBatch("startBatch 100, each", abi.encodeCall(escrow.startBatch, (_starts)));
    }

    function test_ReleaseBatch() public {
        _runBatch(address(usdc), BATCH);
        _measureBatch("releaseBatch 100, each", abi.encodeCall(escrow.releaseBatch, (_batch)));
    }

    function test_CloseBatch_100Renters_100Providers() public {
        _runBatch(address(usdc), BATCH);
        _measureBatch("closeBatch 100 x 100, each", abi.encodeCall(escrow.closeBatch, (_ends)));
    }

    function test_CloseBatch_100Renters_10Providers() public {
        _runBatch(address(usdc), 10);
        _measureBatch("closeBatch 100 x 10, each", abi.encodeCall(escrow.closeBatch, (_ends)));
    }

    function test_CloseBatch_Native() public {
        _runBatch(NATIVE, BATCH);
        _measureBatch("closeBatch 100 x 100 native, each", abi.encodeCall(escrow.closeBatch, (_ends)));
    }

    function _artifacts() internal pure override returns (string memory) {
        return "out-release";
    }

    function _measure(string memory name, address from, bytes memory input) private {
        _measure(name, 1, from, address(escrow), 0, input);
    }

    function _measureBatch(string memory name, bytes memory input) private {
        _measure(name, BATCH, operator, address(escrow), 0, input);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            assertNotEq(logs[i].topics[0], IEscrow.Skipped.selector, "no item skipped");
        }
    }

    /// @dev A rental that has run for an hour.
    function _running(address token) private returns (Terms memory t) {
        t = _terms(token, "running");
        _activate(t, DEPOSIT);
        skip(1 hours);
    }

    function _lockBatch(address token, uint256 providers) private {
        for (uint256 i = 0; i < BATCH; ++i) {
            Terms memory t = _terms(token, keccak256(abi.encode(i)));
            t.renter = makeAddr(string.concat("renter", vm.toString(i)));
            t.provider = makeAddr(string.concat("provider", vm.toString(i % providers)));
            _fund(t.renter, usdc, 1e12);
            vm.deal(t.renter, 1e24);
            if (i < providers) _warm(t.provider, token);
            _lock(t, DEPOSIT);
            _batch.push(t);
            _starts.push(StartItem(t, _now()));
            _ends.push(CloseItem(t, _now() + 1 hours, 60));
        }
        vm.recordLogs();
    }

    function _runBatch(address token, uint256 providers) private {
        _lockBatch(token, providers);
        vm.prank(operator);
        escrow.startBatch(_starts);
        skip(1 hours);
        vm.recordLogs();
    }

    /// @dev Gives `account` and the treasury a balance.
    function _warm(address account, address token) private {
        Terms memory t = _terms(token, keccak256(abi.encode("warm", account)));
        t.provider = account;
        _activate(t, DEPOSIT);
        _close(t, _now(), 0);
        assertGt(escrow.balanceOf(account, token), 0, "warm");
    }
}
