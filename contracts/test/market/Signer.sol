// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../../src/Escrow.sol";
import {EndSignatures, Terms} from "../../src/IEscrow.sol";
import {TestUSDC} from "../mocks/TestUSDC.sol";
import {Test} from "forge-std/Test.sol";

/// @notice Signs what the escrow and the tokens take, encoded here anew from the type strings.
abstract contract Signer is Test {
    string private constant TERMS_TYPE =
        "Terms(address renter,address provider,address token,uint96 pricePerHour,uint16 feeBps,uint40 startBy,uint32 holdback,bytes32 orderHash)";
    address internal constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;

    Escrow public immutable ESCROW;
    TestUSDC public immutable USDC;

    mapping(address account => uint256) private _keys;

    constructor(Escrow escrow, TestUSDC usdc) {
        ESCROW = escrow;
        USDC = usdc;
    }

    function _newAccount(string memory name) internal returns (address account) {
        uint256 key;
        (account, key) = makeAddrAndKey(name);
        _keys[account] = key;
    }

    function _signEnd(address by, bytes32 id, uint40 stoppedAt, uint32 creditSecs)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typehash = keccak256("End(bytes32 id,uint40 stoppedAt,uint32 creditSecs)");
        return _sign(by, _escrowDomain(), keccak256(abi.encode(typehash, id, stoppedAt, creditSecs)));
    }

    function _signAgreed(
        address by,
        bytes32 id,
        uint32 billedSecs,
        uint40 validUntil
    )
        internal
        view
        returns (bytes memory)
    {
        bytes32 typehash = keccak256("AgreedEnd(bytes32 id,uint32 billedSecs,uint40 validUntil)");
        return _sign(by, _escrowDomain(), keccak256(abi.encode(typehash, id, billedSecs, validUntil)));
    }

    function _signBoth(
        Terms memory t,
        bytes32 id,
        uint32 billedSecs,
        uint40 validUntil
    )
        internal
        view
        returns (EndSignatures memory)
    {
        return EndSignatures(
            _signAgreed(t.renter, id, billedSecs, validUntil), _signAgreed(t.provider, id, billedSecs, validUntil)
        );
    }

    function _signPrepaid(Terms memory t, uint96 deposit) internal view returns (bytes memory) {
        bytes32 typehash = keccak256(abi.encodePacked("PrepaidLock(Terms terms,uint96 deposit)", TERMS_TYPE));
        return _sign(t.renter, _escrowDomain(), keccak256(abi.encode(typehash, _hash(t), deposit)));
    }

    function _signWithdrawal(
        address account,
        address token,
        address to,
        uint96 amount,
        uint256 deadline
    )
        internal
        view
        returns (bytes memory)
    {
        bytes32 typehash = keccak256(
            "Withdrawal(address account,address token,address to,uint96 amount,uint256 nonce,uint256 deadline)"
        );
        uint256 nonce = ESCROW.nonces(account);
        bytes32 hash = keccak256(abi.encode(typehash, account, token, to, amount, nonce, deadline));
        return _sign(account, _escrowDomain(), hash);
    }

    function _signPermit(address renter, uint256 amount, uint256 deadline) internal view returns (bytes memory) {
        bytes32 typehash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        uint256 nonce = USDC.nonces(renter);
        bytes32 hash = keccak256(abi.encode(typehash, renter, ESCROW, amount, nonce, deadline));
        return _sign(renter, _usdcDomain(), hash);
    }

    /// @dev EIP-3009, valid from 0 to `validBefore`, the nonce being the rental's id.
    function _signAuthorization(
        address renter,
        uint256 amount,
        uint256 validBefore,
        bytes32 id
    )
        internal
        view
        returns (bytes memory)
    {
        bytes32 typehash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 hash = keccak256(abi.encode(typehash, renter, ESCROW, amount, uint256(0), validBefore, id));
        return _sign(renter, _usdcDomain(), hash);
    }

    function _signPermit2(
        Terms memory t,
        uint96 deposit,
        uint256 nonce,
        uint256 deadline
    )
        internal
        view
        returns (bytes memory)
    {
        string memory permissions = "TokenPermissions(address token,uint256 amount)";
        bytes32 typehash = keccak256(
            abi.encodePacked(
                "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Terms witness)",
                TERMS_TYPE,
                permissions
            )
        );
        bytes32 permitted = keccak256(abi.encode(keccak256(bytes(permissions)), t.token, uint256(deposit)));
        bytes32 hash = keccak256(abi.encode(typehash, permitted, ESCROW, nonce, deadline, _hash(t)));
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                block.chainid,
                PERMIT2
            )
        );
        return _sign(t.renter, domain, hash);
    }

    function _sign(address by, bytes32 domain, bytes32 structHash) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_keys[by], keccak256(abi.encodePacked(hex"1901", domain, structHash)));
        return abi.encodePacked(r, s, v);
    }

    function _hash(Terms memory t) private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(TERMS_TYPE)), t));
    }

    function _escrowDomain() private view returns (bytes32) {
        return _domain("Weir Escrow", address(ESCROW));
    }

    function _usdcDomain() private view returns (bytes32) {
        return _domain("USD Coin", address(USDC));
    }

    function _domain(string memory name, address verifier) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                block.chainid,
                verifier
            )
        );
    }
}
